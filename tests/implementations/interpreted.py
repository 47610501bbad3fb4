"""Calls ``triton/flash`` under Triton's interpreter: ``python -m tests.implementations.interpreted JOBS OUTPUTS``.

It is a separate process, because Triton enables its interpreter only at the first import. A job has a ``name``, a
``case``, and optionally ``configs`` (tile sizes by kernel) and ``tma`` to override the implementation's choice.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from attnbench import make_case
from tests.implementations.conftest import implementation, results_of


def main(jobs: Path, outputs: Path) -> None:
    """Write one ``.npz`` file per job, by its name."""
    one = implementation("triton_flash", "triton/flash")
    plan = importlib.import_module("attnbench.implementations.triton_flash.plan")
    tuning = importlib.import_module("attnbench.implementations.triton_flash.tuning")
    for job in json.loads(jobs.read_text()):
        configs = {kernel: tuning.Config(*numbers) for kernel, numbers in job.get("configs", {}).items()}
        one.prepare_hook = functools.partial(plan.Plan, configs=configs, tma=job.get("tma"))
        arrays: dict[str, Any] = results_of(one, make_case(**job["case"]))
        np.savez(outputs / f"{job['name']}.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
