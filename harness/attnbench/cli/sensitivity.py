"""``attnbench check --sensitivity``: which known-wrong implementations do a scenario's inputs catch?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from attnbench.cli.errors import UsageError
from attnbench.cli.output import Format, print_view

if TYPE_CHECKING:
    from attnbench.runner.request import Request

_ANY_MUTANT = "mutant/any"


def print_sensitivity(request: Request, form: Format) -> int:
    """Try all mutants on the cases of a request and print what became of each.

    Exit code 0 whatever is caught: a scenario for inference is rightly blind to wrong gradients.

    Raises:
        UsageError: when the scenario has no case.
    """
    from attnbench.mutants.sensitivity import measure_sensitivity
    from attnbench.sweep.expand import expand
    from attnbench.views.sensitivity import sensitivity_view

    scenario = request.scenario
    overrides = dict(request.overrides)
    if request.seed and "seed" not in overrides:
        overrides["seed"] = [str(request.seed)]
    cases = {
        planned.case.case_id: planned.case
        for planned in expand(scenario, overrides)
        if scenario.excluded(planned.case, device="cpu", implementation=_ANY_MUTANT) is None
    }
    if not cases:
        raise UsageError("the scenario's exclusions leave no case")

    def progress(done: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{done} of {len(cases)} cases")
            sys.stderr.flush()

    found = measure_sensitivity(list(cases.values()), progress)
    if sys.stderr.isatty():
        sys.stderr.write("\r")
    print_view(sensitivity_view(scenario.name, found), form)
    return 0
