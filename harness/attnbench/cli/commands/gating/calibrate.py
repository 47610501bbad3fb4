"""``attnbench calibrate``: measure this machine's noise, and the gate's rate of false alarms on it."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations

from attnbench import api
from attnbench.cli.options import Force, Format, GateCells, Json, SomeScenario
from attnbench.cli.output import print_view


def calibrate(
    scenario: SomeScenario = "gate-smoke",
    *,
    cells: GateCells = GateCells(),
    rounds: int = 20,
    delta: str = "3%",
    seed: int = 0,
    runs: Path | None = None,
    out: Path | None = None,
    force: Force = False,
    form: Format = "terminal",
    as_json: Json = False,
) -> int:
    """Measure the same code on both sides, to learn each cell's noise floor and the gate's false-alarm rate here.

    The result is stored with the machine's key; attnbench gate finds it there and tolerates no less than the floors.

    ```
    attnbench calibrate
    attnbench calibrate gate-smoke -i numba --rounds 10
    ```

    Args:
        rounds: rounds of both sides; twenty tell a noise floor, fewer a rough one.
        delta: change of time that the gate will tolerate.
        seed: of orders and draws.
        runs: folder for the run files, kept; an interrupted calibration goes on there.
        out: where the result goes; default results/calibration/SCENARIO-MACHINE-THREADS.json.
    """
    learned = api.calibrate(
        scenario, **vars(cells), rounds=rounds, delta=delta, seed=seed, runs=runs, out=out, force=force, progress=True
    )  # fmt: skip
    if as_json or form == "json":
        sys.stdout.write(learned.calibration.model_dump_json(indent=2) + "\n")
    else:
        print_view(learned.view, form)
    use = f" --calibration {out} uses it" if out else " uses it from now on"
    sys.stderr.write(f"attnbench: stored in {learned.path}; attnbench gate {scenario}{use}\n")
    return 0
