"""Separate process for questions that need torch, which the planning process never imports.

``python -m attnbench.machine.probe QUESTION THREADS [DEVICE]`` prints one JSON object. The questions are ``libraries``
and ``exponentials``, and with a device ``peaks`` and ``quick-peaks``.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from attnbench.machine.hardware.pinning import pin, usable_processors

if TYPE_CHECKING:
    from collections.abc import Sequence


def describe_libraries() -> dict[str, object]:
    """Describe BLAS and OpenMP libraries with their threads, torch's build, and the processors of this process."""
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    # A product loads the libraries that are loaded lazily.
    np.ones((2, 2)) @ np.ones((2, 2))
    pools = [
        {key: pool.get(key) for key in ("user_api", "internal_api", "version", "num_threads", "architecture")}
        for pool in threadpool_info()
    ]
    built = dict(re.findall(r"(BLAS_INFO|LAPACK_INFO)=(\w+)", torch.__config__.show()))
    return {
        "processors": usable_processors(),
        "thread_pools": pools,
        "numpy_blas": np.show_config(mode="dicts")["Build Dependencies"]["blas"].get("name"),
        "torch_threads": torch.get_num_threads(),
        "torch_interop_threads": torch.get_num_interop_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_blas": built.get("BLAS_INFO"),
        "torch_lapack": built.get("LAPACK_INFO"),
        "torch_onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]  # torch's own lack
        "torch_openmp": torch.backends.openmp.is_available(),  # type: ignore[no-untyped-call]  # torch's own lack
        "torch_cuda": torch.version.cuda,
    }


def main(arguments: Sequence[str]) -> dict[str, object]:
    """Answer a question."""
    question, threads = arguments[0], int(arguments[1])
    pin(threads)
    import torch

    torch.set_num_threads(threads)
    if question == "libraries":
        return describe_libraries()
    if question == "exponentials":
        from attnbench.machine.pace.peaks import find_exponentials

        return {**find_exponentials(threads)}
    if question in ("peaks", "quick-peaks"):
        from attnbench.machine.pace.peaks import find_peaks

        return {**find_peaks(arguments[2], quick=question == "quick-peaks")}
    raise ValueError(f"the probe knows no question {question!r}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1:])) + "\n")
