"""``python -m tests.first_minute.compiling``: measures the processor time to compile ``numba/flash``'s kernels.

Each order runs in its own process with an empty cache: the first kernel also pays for shared code. Time is the
user and system time of that process, so other work hardly matters. ``NUMBA_CPU_NAME=znver3`` selects AVX2.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

ORDERS = (
    ("forward float32", "forward bfloat16", "backward float32", "decode float32"),
    ("backward float32", "forward float32"),
    ("decode bfloat16", "decode float32"),
)
PROGRAM = """
import importlib, sys, time
import numba, torch
entry = importlib.import_module("attnbench.implementations.numba_flash.entry")
print(entry.TARGET.name)
for name in sys.argv[1:]:
    before = time.process_time()
    entry.threads()
    entry.kernel(*name.split())
    print(f"{name:18} {time.process_time() - before:6.2f} s")
"""


def main() -> int:
    """Measure and print."""
    for order in ORDERS:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            command = [sys.executable, "-c", PROGRAM, *order]
            done = subprocess.run(command, env=environment, check=False)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
