"""``python -m tests.soak``: checks that healthy implementations never fail, whatever the values.

Judges every implementation of the registry on the cases of the bundled scenarios, for many seeds, and checks
identities. Sequences are cut to a few hundred tokens. The command appends a line to a file for each (case, seed), so
that it can be stopped and continued; the tables at the end are made from the file. Exit code 1 if anything disagreed.
Every case gets its first seed before any gets its second; then the smallest cases get all of their seeds first.

Implementations are called and judged one after another in this process: they are our own, nothing is timed, and the
answer of a case is computed once for all of them. After a change to what is judged, start a new file.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak import VALUES_OF_A_SEED
from tests.soak.processors import PROCESSORS

if TYPE_CHECKING:
    from tests.soak.units import Report, Unit


def main() -> int:
    """Judge units until all are done or time is up."""
    arguments = parse()
    threads = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    os.environ.update(dict.fromkeys(threads, str(arguments.threads)))
    os.environ.update({"OMP_WAIT_POLICY": "passive", **PROCESSORS[arguments.processor]})
    from attnbench.machine.warm_up_libraries import warm_up_torch
    from attnbench.sweep.load import bundled_scenarios
    from tests.soak.coverage import coverage
    from tests.soak.units import Judge, cases_of, implementations, units

    warnings.simplefilter("ignore")
    warm_up_torch(arguments.threads)
    chosen = implementations(arguments.include, arguments.exclude)
    scenarios = arguments.scenario or sorted(bundled_scenarios())
    cases = cases_of(scenarios, arguments.tokens)
    gc.collect()
    gc.freeze()  # spares garbage collections between cells the imported modules
    planned = units(cases, range(arguments.first, arguments.first + arguments.seeds), arguments.values)
    wanted = {unit.name for unit in planned}
    done = {report.unit: report for report in read([arguments.out]) if report.unit in wanted}
    ends = time.monotonic() + 60 * arguments.minutes if arguments.minutes else float("inf")
    with arguments.out.open("a") as file:
        for unit in planned:
            if unit.name in done:
                continue
            if time.monotonic() > ends:
                break
            judged = Judge(unit)
            for implementation in chosen:
                judged(implementation, arguments.cell_seconds)
            done[unit.name] = judged.report
            gc.freeze()  # modules imported meanwhile
            file.write(json.dumps(dataclasses.asdict(judged.report)) + "\n")
            file.flush()
            for alarm in judged.report.alarms:
                say("{implementation}, {label}, repetition {repetition}: {sentence}".format(**alarm))
    done = together([*done.values(), *(report for report in read(arguments.beside) if report.unit in wanted)])
    for line in coverage(scenarios, arguments.tokens, done.values()):
        say(line)
    return table(planned, done)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--values",
        type=int,
        default=VALUES_OF_A_SEED,
        help="sets of values for each seed; --seeds 1 --values 200 for what is compiled anew for each seed",
    )
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--scenario", action="append", help="repeatable; default: all that are bundled")
    parser.add_argument("-i", "--include", action="append", default=[], help="implementations, a regular expression")
    parser.add_argument("-x", "--exclude", action="append", default=[])
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--cell-seconds", type=float, default=3.0, help="slow implementations get fewer values")
    parser.add_argument("--tokens", type=int, default=720, help="longer sequences are cut")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processor", choices=PROCESSORS, default="own", help="whose code libraries are to take")
    parser.add_argument("--out", type=Path, default=Path("results/runs/soak.jsonl"))
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="files of other commands, for the tables")
    return parser.parse_args()


def read(paths: Iterable[Path]) -> Iterator[Report]:
    """Read the lines of earlier commands; a torn last line is dropped."""
    from tests.soak.units import Report

    for path in paths:
        for line in path.read_text().splitlines(keepends=True) if path.exists() else ():
            if line.endswith("\n"):
                yield Report(**json.loads(line))


def together(reports: Iterable[Report]) -> dict[str, Report]:
    """Merge reports into one per unit, over all implementations."""
    from tests.soak.units import added

    found: dict[str, list[Report]] = {}
    for report in reports:
        found.setdefault(report.unit, []).append(report)
    return {unit: added(reports_of_it, unit) for unit, reports_of_it in found.items()}


def table(planned: list[Unit], done: dict[str, Report]) -> int:
    """Print the summary: covered pairs, each implementation's largest error over budget, and disagreements."""
    from tests.soak.units import added

    total = added(done.values())
    say(f"{len(done)} of {len(planned)} (case, seed), {planned[0].values} sets of values in each; {_seeds(done)}")
    say(f"{sum(total.pairs.values())} pairs (implementation and case, set of values) were judged:")
    for name, count in sorted(total.pairs.items()):
        judged = [unit for unit, report in done.items() if name in report.pairs]
        say(f"{count:9}  {name:<26} {_seeds(judged)}")
    say("The largest error over its budget:")
    for key, ratio in sorted(total.worst.items(), key=lambda item: -item[1]):
        implementation, tensor, dtype = key.split()
        say(f"{ratio:9.3f}  {implementation:<26} {tensor:<11} {dtype}")
    by_implementation = collections.Counter(alarm["implementation"] for alarm in total.alarms)
    say(f"{len(total.alarms)} disagreed{': ' if total.alarms else ''}{dict(by_implementation) or ''}")
    return 1 if total.alarms else 0


def _seeds(units_judged: Iterable[str]) -> str:
    """Return text like ``246 cases, each with 1 to 13 seeds``."""
    seeds = collections.Counter(name.partition("/")[0] for name in units_judged)
    return f"{len(seeds)} cases, each with {min(seeds.values(), default=0)} to {max(seeds.values(), default=0)} seeds"


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
