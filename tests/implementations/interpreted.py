"""Calls ``triton/flash`` under Triton's interpreter: ``python -m tests.implementations.interpreted CASES OUTPUTS``.

A process of its own, because Triton takes to its interpreter only when it is first imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from attnbench import make_case
from tests.implementations.conftest import implementation, results_of


def main(cases: Path, outputs: Path) -> None:
    """One ``.npz`` for each case, named by its id."""
    one = implementation("triton_flash", "triton/flash")
    for fields in json.loads(cases.read_text()):
        case = make_case(**fields)
        arrays: dict[str, Any] = results_of(one, case)
        np.savez(outputs / f"{case.case_id}.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
