"""The shortest command that shows a cell again."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from attnbench.cases.case import DEFAULTS, CaseError, make_case

if TYPE_CHECKING:
    from attnbench.cases.case import Case
    from attnbench.registry.discover import Found


def repro_command(case: Case, found: Found, device: str) -> str:
    """``attnbench run`` without a scenario: the axes that differ from the defaults, and one implementation."""
    parts = [
        "attnbench",
        "run",
        "-i",
        f"^{re.escape(found.name).replace(chr(92) + '/', '/').replace(chr(92) + '-', '-')}$",
    ]
    if found.origin.kind == "file":
        parts += ["--plugin", found.origin.target]
    if device != "cpu":
        parts += ["--device", device]
    for name, value in needed_fields(case).items():
        parts += ["-a", f"{name}={value}"]
    return shlex.join(parts)


def needed_fields(case: Case) -> dict[str, str]:
    """Those fields without which the defaults would make another case, as the command line writes them."""
    fields = {name: value for name, value in case.to_dict().items() if value is not None and value != DEFAULTS[name]}
    for name in list(fields):
        rest = {other: value for other, value in fields.items() if other != name}
        if _makes(case, rest):
            fields = rest
    return {name: _written(value) for name, value in fields.items()}


def _makes(case: Case, fields: dict[str, object]) -> bool:
    try:
        return make_case(**fields) == case
    except CaseError:
        return False


def _written(value: object) -> str:
    if isinstance(value, list):
        return "+".join(str(item) for item in value)  # a list within a list of values: 3+5,4+4
    return str(value).lower() if isinstance(value, bool) else str(value)
