"""Times the callables with pyperf, which takes its own options."""

from __future__ import annotations

import pyperf

from tests.precision.precision_kernels import KERNELS, operands

if __name__ == "__main__":
    runner = pyperf.Runner()
    for name, kernel in KERNELS.items():
        runner.bench_func(name, kernel, *operands(name))
