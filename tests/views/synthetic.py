"""A run of as many records as are asked for: ``python -m tests.views.synthetic 100000 large.jsonl``."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path

from attnbench.cases.case import make_case
from tests.views.conftest import timed, write

LENGTHS = tuple(128 * 2**i for i in range(8))
IMPLEMENTATIONS = tuple(f"family-{i}/kernel" for i in range(10))
PROCESSES = 3


def large_run(path: Path, records: int) -> Path:
    """Ten implementations, eight lengths, three processes, and as many groups of cases as it takes."""
    noise = random.Random(5)
    groups = itertools.product(
        ("float32", "bfloat16", "float16", "float64"),
        ("none", "causal", "sliding_window", "key_padding"),
        (1, 2, 4, 8, 16, 32),
        (32, 64, 128, 256),
        ("forward", "backward"),
    )
    lines = []
    for dtype, mask, heads, head_dim, mode in groups:
        for length, (number, name) in itertools.product(LENGTHS, enumerate(IMPLEMENTATIONS, start=1)):
            case = make_case(seqlen_q=length, dtype=dtype, mask=mask, heads_q=heads, head_dim=head_dim, mode=mode)
            for replicate in range(PROCESSES):
                if len(lines) == records:
                    return write(path, lines, replicates=PROCESSES)
                median = (20_000 + 0.1 * number * heads * length**2) * noise.uniform(0.97, 1.03)
                lines.append(timed(case, name, median, replicate=replicate, memory_peak_bytes=512 * number * length))
    raise ValueError(f"only {len(lines):,} records can be made")


if __name__ == "__main__":
    large_run(Path(sys.argv[2]), int(sys.argv[1]))
