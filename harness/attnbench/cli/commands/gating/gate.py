"""``attnbench gate``: find out whether a change made anything slower, bigger, wrong, or no longer supported."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated

from cyclopts import Parameter

from attnbench import api
from attnbench.cli.options import Format, GateCells, Json, Scenario, Switch
from attnbench.cli.output import print_view

Deltas = Annotated[list[str] | None, Parameter(negative="", consume_multiple=False)]


def gate(
    scenario: Scenario = None,
    *,
    base: str | None = None,
    head: str | None = None,
    baseline: str | None = None,
    cells: GateCells = GateCells(),
    delta: Deltas = None,
    rounds: int = 4,
    confirm: int = 6,
    seed: int = 0,
    waivers: Path | None = None,
    calibration: Path | None = None,
    measure_identical: Switch = False,
    out: Path | None = None,
    cache_dir: Path | None = None,
    form: Format = "terminal",
    as_json: Json = False,
) -> int:
    """Judge a change: measure both sides on this machine, in fresh processes and in turns, and compare pair by pair.

    A side is a git revision, a directory, a wheel, or a plug-in file; the scenario defaults to gate-smoke, or to the
    baseline's own. Exit codes: 0 no regression, 1 a regression, 4 cells failed, 5 nothing measured or cells missing, 6
    cannot tell.

    ```
    attnbench gate --base main                # the checkout against a branch
    attnbench gate --base old_kernel.py --head new_kernel.py --delta 5%
    ```

    Args:
        base: what is compared with: REV, ./DIR, FILE.whl or PLUGIN.py.
        head: what is judged; default the current directory, uncommitted changes included (with --baseline: this
            environment).
        baseline: instead of a base, a stored run: RUN.jsonl, or the name of one in results/baselines.
        delta: change that is tolerated: 5% or time=5% of time (default 3%), memory=1% (0.5%), exponent=0.2 (0.1) of
            the growth with the length; repeatable.
        rounds: rounds of the first stage, in which all cells are measured.
        confirm: rounds of the second stage, in which suspects are measured again.
        seed: of values and orders.
        waivers: a TOML file of regressions that are accepted for a while.
        calibration: what attnbench calibrate has learned of this machine; default the one in results/calibration.
        measure_identical: measure sides that are the same code, too.
        out: folder for run files and results; default results/gates/UTC-TIME-SCENARIO.
        cache_dir: where sides are built and kept; default $ATTNBENCH_CACHE, or attnbench in the user's cache folder.
    """
    judged = api.gate(
        scenario, **vars(cells), base=base, head=head, baseline=baseline, delta=delta, rounds=rounds, confirm=confirm,
        seed=seed, waivers=waivers, calibration=calibration, measure_identical=measure_identical, out=out,
        cache_dir=cache_dir, progress=True,
    )  # fmt: skip
    if as_json or form == "json":
        sys.stdout.write(judged.result.model_dump_json(indent=2) + "\n")  # the content of gate.json
    else:
        print_view(judged.view, form)
    return judged.exit_code
