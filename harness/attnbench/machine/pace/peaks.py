"""This machine's peak rates, measured: matrix products per dtype, memory copies, and exponentials.

Data sheets go out of date and ignore power caps and neighbours, so percent of peak refers to what the same machine did
in the same run, on random data (zeros need less power and run faster).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypedDict, cast

from attnbench.machine.ask_probe import ask_probe
from attnbench.machine.hardware.cpu import last_level_cache_bytes
from attnbench.machine.hardware.devices import device_unavailable
from attnbench.machine.hardware.memory import available_bytes
from attnbench.machine.interference import interference, read_counters
from attnbench.machine.pace.stopwatch import fastest_ns
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DTYPES = {
    "cpu": ("float64", "float32", "bfloat16", "float16"),
    "cuda": ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn"),
}
_ROUNDS = 3
_SMALLEST = 128
_LARGEST = 8192
_GPU_PRODUCT_NS = 1.5e6
"""Minimum time of a GPU's product, about that of an attention call: within 10 ms at full power the clock of an H200
drops so far that FlashAttention-3 ran at 110 % of the product."""
_LEAST_COPY_BYTES = 2**28
_EXPONENTIALS = 2**14
"""Chosen so that inputs and outputs fit in the second-level cache."""
_EXP_CALLS = 50
_EXP_REPEATS = 30
_LEAST_RATE, _MOST_RATE = 1e-6, 1e9
_KINDS: dict[str, type | tuple[type, ...]] = {
    "tflops": dict, "not_measured": dict, "disturbance": dict, "device": str, "threads": int,
    "method": (str, type(None)), "failed": (str, type(None)),
}  # fmt: skip


class PeakRates(TypedDict):
    """Rates measured by :func:`find_peaks`."""

    tflops: dict[str, float]
    """By dtype, for those that could be measured."""
    not_measured: dict[str, str]
    """Reason by dtype for the others."""
    gbytes_per_s: float | None
    """Copy bandwidth, counting bytes read and bytes written; a GB is 10^9 bytes."""
    read_gbytes_per_s: float | None
    """Read bandwidth, on CUDA only: a bus that need not turn round may be faster than for a copy."""
    method: str | None
    disturbance: dict[str, float | None]
    """See :class:`attnbench.machine.interference.Interference`; with many switches the peaks may be too low."""


class Peaks(PeakRates):
    """Result of :func:`measure_peaks`; nothing was measured if ``failed`` is set."""

    device: str
    threads: int
    failed: str | None


def peaks_from(stored: object) -> Peaks:
    """Check peaks read from a file, and return them.

    Raises:
        ValueError: if they are not valid peaks.
    """
    if not isinstance(stored, dict) or stored.keys() != Peaks.__required_keys__:
        raise ValueError("it does not hold what peaks hold")
    strange = [name for name, kind in _KINDS.items() if not isinstance(stored[name], kind)]
    if strange:
        raise ValueError(f"{strange[0]} is {shown(stored[strange[0]])}")
    require_rates(stored)
    peaks: Peaks = stored  # type: ignore[assignment]  # looked at, name by name
    return peaks


def require_rates(peaks: Mapping[str, Any]) -> None:
    """Raise unless all rates are plausible; older files may lack some.

    Raises:
        ValueError: if one is not a number, or outside the plausible range.
    """
    tflops = peaks.get("tflops") or {}
    rates = dict(tflops) if isinstance(tflops, dict) else {"tflops": str(tflops)}
    rates |= {name: peaks[name] for name in ("gbytes_per_s", "read_gbytes_per_s") if peaks.get(name) is not None}
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not _LEAST_RATE <= rate <= _MOST_RATE:
            raise ValueError(f"{name} is {shown(rate)}, which is not a rate")


def higher_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, object]:
    """Combine peaks measured twice, taking the higher of each rate: disturbances only lower rates."""
    rates: dict[str, float] = dict(one.get("tflops", {}))
    for dtype, rate in other.get("tflops", {}).items():
        rates[dtype] = max(rate, rates.get(dtype, 0.0))
    speeds = {
        name: max((speed for peaks in (one, other) if (speed := peaks.get(name))), default=None)
        for name in ("gbytes_per_s", "read_gbytes_per_s")
    }
    return {**one, "tflops": rates, **speeds}


def measure_peaks(device: str, threads: int, *, quick: bool) -> Peaks:
    """Measure the peaks of ``cpu`` or ``cuda`` with this many threads, in a pinned process.

    Takes a few seconds, about half as long if ``quick``; importing torch takes one or two of them. If the probe fails,
    ``failed`` has the reason.
    """
    nothing: Peaks = {
        "device": device, "threads": threads, "failed": device_unavailable(device), "tflops": {}, "not_measured": {},
        "gbytes_per_s": None, "read_gbytes_per_s": None, "method": None, "disturbance": {},
    }  # fmt: skip
    if nothing["failed"]:
        return nothing
    return cast("Peaks", {**nothing, **ask_probe("quick-peaks" if quick else "peaks", threads, device)})


def find_peaks(device: str, *, quick: bool) -> PeakRates:
    """Measure peaks in this process; ``quick`` takes fewer repeats and smaller products."""
    repeats, target_ns, most_bytes = (3, 10e6, 2**29) if quick else (5, 25e6, 2**30)
    if device == "cuda":
        target_ns = _GPU_PRODUCT_NS
    before = read_counters()
    products, not_measured = _products(device, target_ns)
    others = {dtype: _numpys_product(dtype, side) for dtype, (side, _) in products.items() if device == "cpu"}
    cache = last_level_cache_bytes() if device == "cpu" else None
    size = copy_bytes(cache, available_bytes(), most_bytes) if device == "cpu" else most_bytes
    copy = _copy(device, size)
    read = _read(size) if device == "cuda" else None
    tflops = dict.fromkeys(products, 0.0)
    gbytes_per_s = read_gbytes_per_s = 0.0
    # Rounds alternate between products and copies, so that a short disturbance does not affect all of one kind.
    for _ in range(_ROUNDS):
        for dtype, (side, product) in products.items():
            for one in filter(None, (product, others.get(dtype))):
                rate = 2 * side**3 / fastest_ns(one, device, repeats) / 1e3
                tflops[dtype] = max(rate, tflops[dtype])
        gbytes_per_s = max(2 * size / fastest_ns(copy, device, repeats), gbytes_per_s)
        if read is not None:
            read_gbytes_per_s = max(size / fastest_ns(read, device, repeats), read_gbytes_per_s)
    sides = ", ".join(f"{dtype} {side}" for dtype, (side, _) in products.items())
    return {
        "tflops": tflops,
        "not_measured": not_measured,
        "gbytes_per_s": gbytes_per_s,
        "read_gbytes_per_s": read_gbytes_per_s or None,
        "method": (
            f"fastest of {_ROUNDS * repeats} square matrix products of random data ({sides}) by torch"
            f"{' and NumPy' if any(others.values()) else ''}, "
            f"and of copies of {size // 2**20} MiB, bytes read and written"
        ),
        "disturbance": dataclasses.asdict(interference(before, read_counters())),
    }


def size_for(target_ns: float, time_of: Callable[[int], float], largest: int) -> int:
    """Return a size at which a square matrix product takes at least about ``target_ns``, searching upwards.

    Small sizes come first: for a dtype without its own instructions a product can be a thousand times slower.
    """
    size = _SMALLEST
    while (taken := time_of(size)) < target_ns and size < largest:
        # Work grows with the cube of the size, and the rate grows as well, so the estimate is rather low than high.
        growth = min(4.0, (1.1 * target_ns / taken) ** (1 / 3))
        size = min(largest, max(size + _SMALLEST, round(size * growth / _SMALLEST) * _SMALLEST))
    return size


def copy_bytes(cache_bytes: int | None, available: int, most: int) -> int:
    """Return the size of the buffer to copy, in bytes, a multiple of 1 MiB.

    Source and target together are four times the last-level cache, so that neither stays in it; each is at least
    256 MiB and at most ``most``, but never more than an eighth of the available memory.
    """
    wanted = min(max(2 * (cache_bytes or 0), _LEAST_COPY_BYTES), most)
    return max(2**20, min(wanted, available // 8) // 2**20 * 2**20)


def _products(device: str, target_ns: float) -> tuple[dict[str, tuple[int, Callable[[], object]]], dict[str, str]]:
    """Return size and product by dtype, and the reason for each dtype that torch cannot multiply on the device."""
    found, not_measured = {}, {}
    for dtype in DTYPES[device]:

        def time_of(size: int, dtype: str = dtype) -> float:
            # More than one call, so that a disturbed one is not taken for a slow dtype.
            return fastest_ns(_product(device, dtype, size), device, repeats=3)

        try:
            size = size_for(target_ns, time_of, _LARGEST)
            found[dtype] = (size, _product(device, dtype, size))
        except (RuntimeError, ValueError) as error:  # unsupported dtype, or out of device memory
            not_measured[dtype] = f"torch says: {str(error).splitlines()[0]}"
    return found, not_measured


def _product(device: str, dtype: str, size: int) -> Callable[[], object]:
    import torch

    # Permuted rows of one random matrix are random enough for power and caches, and quick to make.
    a = torch.randn(size // 8, size, device=device).repeat(8, 1)
    b = a[torch.randperm(size, device=device)].contiguous()
    a, b = a.to(getattr(torch, dtype)), b.to(getattr(torch, dtype))
    if dtype == "float8_e4m3fn":  # @ has no float8; this function takes a column-major second factor
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)  # noqa: SLF001
    return lambda: a @ b


def _numpys_product(dtype: str, size: int) -> Callable[[], object] | None:
    """Return NumPy's product, if it has the dtype: on some processors it uses wider vectors than torch."""
    import numpy as np

    if dtype not in {"float64", "float32"}:
        return None
    a = np.tile(np.random.default_rng(0).standard_normal((size // 8, size), np.dtype(dtype).type), (8, 1))
    b = np.ascontiguousarray(a[::-1])
    return lambda: a @ b


def _copy(device: str, size: int) -> Callable[[], object]:
    import torch

    source = torch.randint(0, 256, (2**20,), dtype=torch.uint8, device=device).repeat(size // 2**20)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _read(size: int) -> Callable[[], object]:
    """Return a sum, which reads everything and writes almost nothing."""
    import torch

    source = torch.randn(2**18, device="cuda").repeat(size // 2**20)
    return source.sum


def find_exponentials(threads: int) -> dict[str, float]:
    """Return float32 exponentials per nanosecond, the better of torch and NumPy, as ``{"per_ns": rate}``.

    One thread is measured and multiplied by ``threads``: a call on several threads would mostly measure waking them.
    """
    import numpy as np
    import torch

    torch.set_num_threads(1)
    numbers = torch.randn(_EXPONENTIALS)
    out = torch.empty_like(numbers)

    def torchs() -> None:
        for _ in range(_EXP_CALLS):
            torch.exp(numbers, out=out)

    def numpys() -> None:
        for _ in range(_EXP_CALLS):
            np.exp(numbers.numpy(), out=out.numpy())

    fastest = min(fastest_ns(several, "cpu", _EXP_REPEATS) for several in (torchs, numpys))
    return {"per_ns": _EXP_CALLS * threads * _EXPONENTIALS / fastest}
