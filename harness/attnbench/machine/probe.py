"""A process of its own for questions that need torch: the process that plans a run never imports it.

``python -m attnbench.machine.probe QUESTION THREADS`` prints one JSON object; the questions are ``libraries``,
``peaks`` and ``quick-peaks``, the latter two with a device.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from attnbench.machine.pinning import pin, worker_environment

_TIMEOUT_S = 180.0


def ask_probe(question: str, threads: int, *arguments: str) -> dict[str, Any]:
    """Ask in a pinned process; one that fails answers ``{"failed": sentence}``."""
    command = [sys.executable, "-m", "attnbench.machine.probe", question, str(threads), *arguments]
    try:
        done = subprocess.run(
            command, env=worker_environment(threads), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"the probe took more than {_TIMEOUT_S:.0f} s"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        words = done.stderr.strip().splitlines()
        return {"failed": f"the probe ended with exit code {done.returncode}: {words[-1] if words else 'no message'}"}
    return answer


def describe_libraries() -> dict[str, Any]:
    """BLAS and OpenMP libraries with their threads, and how torch was built."""
    import torch
    from threadpoolctl import threadpool_info

    pools = [
        {key: pool.get(key) for key in ("user_api", "internal_api", "version", "num_threads", "architecture")}
        for pool in threadpool_info()
    ]
    return {
        "thread_pools": pools,
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_blas": "mkl" if torch.backends.mkl.is_available() else "other",
        "torch_onednn": torch.backends.mkldnn.is_available(),
        "torch_cuda": torch.version.cuda,
    }


def main() -> None:
    """Answer one question."""
    question, threads = sys.argv[1], int(sys.argv[2])
    pin(threads)
    import torch

    torch.set_num_threads(threads)
    if question == "libraries":
        answer = describe_libraries()
    else:
        from attnbench.machine.peaks import find_peaks

        answer = find_peaks(sys.argv[3], quick=question == "quick-peaks")
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
