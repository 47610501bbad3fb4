"""What this machine can do at most, measured: matrix products per dtype, and copying memory.

Tables of data sheets rot, and power caps and neighbours lower what they promise; so percent of peak is percent of
what the same machine did in the same run, on random data (zeros run faster than data do).
"""

from __future__ import annotations

import statistics
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.machine.probe import ask_probe

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES = ("float64", "float32", "bfloat16", "float16")
_METHOD = "best median of {rounds} rounds of square matrix products and of copies through torch, random data"
_MIN_PRODUCT_NS = 10_000_000
_MAX_SIZE = {"cpu": 4096, "cuda": 8192}


def measure_peaks(device: str, threads: int, *, quick: bool) -> dict[str, Any]:
    """Peaks of a device, from a process of their own.

    Returns:
        ``tflops`` by dtype and ``gbytes_per_s`` (bytes read and written), with ``method``; or ``failed``, a sentence.
    """
    answer = ask_probe("quick-peaks" if quick else "peaks", threads, device)
    return {"device": device, "threads": threads, "failed": None, **answer}


def find_peaks(device: str, *, quick: bool) -> dict[str, Any]:
    """Measure in this process; one round when ``quick``, three otherwise."""
    rounds = 1 if quick else 3
    sizes = {dtype: product_size(device, dtype) for dtype in DTYPES}
    # Alternating rounds: a neighbour that steals time for a second does not hit all of one kind.
    tflops: dict[str, float] = {}
    gbytes = 0.0
    for _ in range(rounds):
        for dtype, size in sizes.items():
            if size is not None:
                tflops[dtype] = max(product_tflops(device, dtype, size), tflops.get(dtype, 0.0))
        gbytes = max(gbytes, copy_gbytes_per_s(device))
    return {"tflops": tflops, "gbytes_per_s": gbytes, "method": _METHOD.format(rounds=rounds)}


def product_size(device: str, dtype: str) -> int | None:
    """A size at which a square matrix product takes 10 ms at least; ``None`` where torch has no such product."""
    size = 512
    while size < _MAX_SIZE[device]:
        try:
            taken = _median_ns(_product(device, dtype, size), device, repeats=1)
        except RuntimeError:
            return None  # not implemented for this dtype on this device
        if taken >= _MIN_PRODUCT_NS:
            break
        # The work grows with the cube: four times too quick is one doubling away.
        size *= 4 if taken < _MIN_PRODUCT_NS / 64 and 4 * size <= _MAX_SIZE[device] else 2
    return size


def product_tflops(device: str, dtype: str, size: int) -> float:
    """Rate of a square matrix product, median of five."""
    return 2 * size**3 / _median_ns(_product(device, dtype, size), device, repeats=5) / 1e3


def _product(device: str, dtype: str, size: int) -> Callable[[], object]:
    import torch

    # Rows of one random matrix in another order: random enough for power and caches, and quickly made.
    a = torch.randn(size // 8, size, device=device).repeat(8, 1).to(getattr(torch, dtype))
    b = a[torch.randperm(size, device=device)].contiguous()
    return lambda: a @ b


def copy_gbytes_per_s(device: str) -> float:
    """Bandwidth of copying 512 MiB, counting bytes read and bytes written."""
    import torch

    source = torch.randint(0, 256, (2**20,), dtype=torch.uint8, device=device).repeat(512)
    target = torch.empty_like(source)
    taken = _median_ns(lambda: target.copy_(source), device, repeats=5)
    return 2 * source.numel() / taken


def _median_ns(call: Callable[[], object], device: str, repeats: int) -> float:
    """Median time of a call, after one that warms up."""
    call()
    if device == "cuda":
        return _median_device_ns(call, repeats)
    times = []
    for _ in range(repeats):
        start = perf_counter_ns()
        call()
        times.append(perf_counter_ns() - start)
    return statistics.median(times)


def _median_device_ns(call: Callable[[], object], repeats: int) -> float:
    """As above, between two events on the device."""
    import torch

    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e6)
    return statistics.median(times)
