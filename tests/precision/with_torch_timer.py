"""Times the callables with torch.utils.benchmark, and prints medians in nanoseconds as JSON."""

from __future__ import annotations

import json
import sys

import torch
from torch.utils.benchmark import Timer

from tests.precision.precision_kernels import KERNELS, operands

if __name__ == "__main__":
    found = {}
    for name, kernel in KERNELS.items():
        timer = Timer(
            "kernel(*operands)",
            globals={"kernel": kernel, "operands": operands(name)},
            num_threads=torch.get_num_threads(),
        )
        found[name] = 1e9 * timer.blocked_autorange().median
    json.dump(found, sys.stdout)
