"""Writes a run with any number of records: ``python -m tests.views.synthetic 100000 large.jsonl``.

Two more arguments are the numbers of implementations (10) and of processes per cell (3).
"""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from typing import Any

from attnbench.cases.case import make_case
from tests.views.conftest import timed, write

LENGTHS = tuple(128 * 2**i for i in range(8))


def large_run(path: Path, records: int, implementations: int = 10, processes: int = 3) -> Path:
    """Write a run at eight lengths, with as many groups of cases as needed."""
    noise = random.Random(5)
    names = [f"family-{i}/kernel" for i in range(implementations)]
    groups = itertools.product(
        (1, 2, 3, 4, 6, 8, 12, 16, 24, 32),
        ("float32", "bfloat16", "float16", "float64"),
        ("none", "causal", "sliding_window", "key_padding"),
        (1, 2, 4, 8, 16, 32),
        (32, 64, 128, 256),
        ("forward", "backward"),
    )
    lines: list[dict[str, Any]] = []
    for batch, dtype, mask, heads, head_dim, mode in groups:
        sizes = {"batch": batch, "heads_q": heads, "head_dim": head_dim}
        for length, (number, name) in itertools.product(LENGTHS, enumerate(names, start=1)):
            case = make_case(seqlen_q=length, dtype=dtype, mask=mask, mode=mode, **sizes)
            for replicate in range(processes):
                if len(lines) == records:
                    return write(path, lines, replicates=processes)
                # Each is the fastest somewhere: those with slow starts grow slowly.
                growth = 0.1 * batch * heads * length**2 / number
                median = (20_000 * number + growth) * noise.uniform(0.97, 1.03)
                lines.append(timed(case, name, median, replicate=replicate, memory_peak_bytes=512 * number * length))
    raise ValueError(f"only {len(lines):,} records can be made")


if __name__ == "__main__":
    large_run(Path(sys.argv[2]), int(sys.argv[1]), *map(int, sys.argv[3:]))
