"""``python -m tests.fuzz --inputs 20000``: checks that every input ends in a result or a sentence.

The inputs are divided among the targets; each may take ten seconds of processor time. A failing input is reduced to a
small one and shown with its traceback; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from types import FrameType

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.targets import TARGETS, Target, survives

LONGEST_S = 10


def main() -> int:
    """Fuzz each target, and return the number of targets that failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--only", choices=sorted(TARGETS), action="append")
    arguments = parser.parse_args()
    chosen = arguments.only or sorted(TARGETS)
    signal.signal(signal.SIGVTALRM, _too_long)
    return sum(not soak(name, arguments.inputs // len(chosen)) for name in chosen) and 1


def soak(name: str, inputs: int) -> bool:
    """Whether a target survives ``inputs`` inputs."""
    strategy, target = TARGETS[name]
    refused = [0]

    @settings(
        max_examples=inputs, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(strategy)
    def fuzz(one: object) -> None:
        refused[0] += _in_time(target, one) is not None

    began = time.process_time()
    try:
        fuzz()
    except Exception:  # noqa: BLE001 - any exception is a finding
        traceback.print_exc()
        sys.stdout.write(f"{name}: failed\n")
        return False
    spent = time.process_time() - began
    sys.stdout.write(f"{name}: {inputs:,} inputs, {refused[0]:,} refused, {spent:.0f} s of the processor's time\n")
    sys.stdout.flush()
    return True


def _in_time(target: Target, one: object) -> str | None:
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    try:
        return survives(target, one)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _too_long(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise TimeoutError(f"it took more than {LONGEST_S} s of the processor's time")


if __name__ == "__main__":
    sys.exit(main())
