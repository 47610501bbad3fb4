"""A table of tile sizes to try, and the choice among them on the current device."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from torch import Tensor

Kernel = Literal["forward", "dk_dv", "dq", "partial"]

SHARED_BYTES = 227 * 2**10
"""Shared memory of a block on Hopper (CUDA C++ Programming Guide, "Compute Capabilities")."""
_DIFFERS = 0.05


@dataclasses.dataclass(frozen=True)
class Config:
    """Tile sizes and compilation options of a kernel."""

    block_m: int
    """Queries (rows) of a tile."""
    block_n: int
    """Keys of a tile."""
    num_warps: int
    num_stages: int
    """Number of tiles in flight from memory at once."""

    def __str__(self) -> str:
        """Return the text for a record."""
        return f"{self.block_m}x{self.block_n} warps={self.num_warps} stages={self.num_stages}"


# By kernel and width of a row: the larger head dim in 16-bit numbers, rounded up to 64, 128 or 256. The first entry is
# the seed, which runs without tuning. Measured on an H200 with Triton 3.6 (docs/gpu.md, "Tuning"): two small programs
# on a multiprocessor, one multiplying while the other computes exponentials, match or beat one with large tiles.
TABLE: dict[tuple[Kernel, int], tuple[Config, ...]] = {
    ("forward", 64): (Config(64, 128, 4, 3), Config(128, 64, 4, 4)),
    ("forward", 128): (Config(64, 64, 4, 3), Config(128, 128, 8, 3)),
    ("forward", 256): (Config(128, 64, 8, 2), Config(64, 32, 4, 2)),
    ("dk_dv", 64): (Config(64, 64, 4, 3), Config(128, 64, 4, 2)),
    ("dk_dv", 128): (Config(64, 64, 4, 2), Config(64, 128, 8, 3)),
    ("dk_dv", 256): (Config(32, 64, 8, 1), Config(32, 32, 4, 2), Config(64, 64, 8, 1)),
    ("dq", 64): (Config(128, 64, 8, 3), Config(64, 64, 4, 3)),
    ("dq", 128): (Config(128, 64, 8, 3), Config(64, 64, 4, 2)),
    ("dq", 256): (Config(64, 32, 8, 2), Config(64, 64, 8, 1), Config(32, 32, 4, 2)),
    ("partial", 64): (Config(16, 128, 4, 3), Config(16, 64, 4, 4), Config(64, 64, 4, 3)),
    ("partial", 128): (Config(16, 64, 4, 3), Config(16, 64, 4, 4), Config(64, 64, 4, 2)),
    ("partial", 256): (Config(16, 32, 4, 3), Config(16, 64, 4, 2), Config(64, 32, 4, 2)),
}


def width_of(head_dim: int, head_dim_v: int, element_bytes: int) -> int:
    """Return the width that is the key of the table."""
    width = max(head_dim, head_dim_v) * element_bytes // 2
    return next((column for column in (64, 128, 256) if width <= column), 256)


def candidates(
    kernel: Kernel, head_dim: int, head_dim_v: int, element_bytes: int, rows: int = 1, score_bytes: int = 0
) -> list[Config]:
    """Return the configurations to try, the seed first.

    Inputs wider than 16 bits have smaller tiles, and fewer in flight. Tiles are halved, along the keys first, until all
    tiles in flight fit into shared memory.

    Args:
        kernel: row of the table.
        head_dim: head dim of Q and K.
        head_dim_v: head dim of V.
        element_bytes: bytes of one number of the inputs.
        rows: number of rows of a head (decoding), which limits the size of a tile.
        score_bytes: bytes that are loaded for each score, such as a bias.
    """
    found: dict[Config, None] = {}
    for config in TABLE[kernel, width_of(head_dim, head_dim_v, element_bytes)]:
        one = config
        if element_bytes > 2:
            small, few = min(config.block_m, 64), min(config.num_stages, 2)
            one = dataclasses.replace(config, block_m=small, num_warps=4, num_stages=few)
        rows_bytes = (head_dim * element_bytes, head_dim_v * element_bytes)
        while shared_bytes(one, kernel, *rows_bytes, score_bytes) > SHARED_BYTES:
            smaller = {"block_n": one.block_n // 2} if one.block_n > 32 else {"block_m": one.block_m // 2}
            one = dataclasses.replace(one, **smaller)
        found[one] = None
    if kernel == "partial":
        enough = [one for one in found if one.block_m >= rows] or [max(found, key=lambda one: one.block_m)]
        return [one for one in enough if one.block_m == min(other.block_m for other in enough)]
    return list(found)


def shared_bytes(config: Config, kernel: Kernel, key_bytes: int, value_bytes: int, score_bytes: int) -> int:
    """Estimate the shared memory of the tiles: some stay, others stream, with one tile in flight per stage.

    Args:
        config: the tiles.
        kernel: in ``dk_dv`` K and V stay while Q and dout stream; in ``dq`` the reverse; in the others Q alone stays.
        key_bytes: bytes of a row of Q or K.
        value_bytes: bytes of a row of V or dout.
        score_bytes: bytes that stream in for each score.
    """
    both = key_bytes + value_bytes
    stay, stream = (config.block_n, config.block_m) if kernel == "dk_dv" else (config.block_m, config.block_n)
    stays = stay * (both if kernel in ("dk_dv", "dq") else key_bytes)
    return stays + config.num_stages * stream * (both + stay * score_bytes)


def first_that_runs(configs: Sequence[Config], run: Callable[[Config], Tensor]) -> Config:
    """Return the first candidate that runs, without timing, for problems too small to be worth tuning.

    Raises:
        NothingRunsError: if none runs; with the last reason.
    """
    reason = "there is no candidate"
    for config in configs:
        try:
            run(config)
        except Exception as error:  # noqa: BLE001 - as in choose
            reason = _reason(config, error)
        else:
            return config
    raise NothingRunsError(f"no tile size runs on this device; the last one tried, {reason}")


def _reason(config: Config, error: Exception) -> str:
    return f"{config}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


class NothingRunsError(RuntimeError):
    """No candidate could be compiled and run."""


_chosen: dict[Hashable, Config] = {}
"""The best configuration of each kind of case, for later cases in this process."""


def choose(
    key: Hashable,
    configs: Sequence[Config],
    run: Callable[[Config], Tensor],
    time_ms: Callable[[Callable[[], object]], float],
) -> Config:
    """Return the fastest candidate on this device.

    Candidates that cannot be compiled, exceed the device's resources, or compute something else than the first one that
    runs (tuners may otherwise choose a fast and wrong one: triton#8853) are left out.

    Args:
        key: key of the choice, which is made once per key.
        configs: candidates, the seed first.
        run: runs a candidate and returns its result, possibly in the same memory each time.
        time_ms: times a call.

    Raises:
        NothingRunsError: if none runs; with the first reason.
    """
    if key in _chosen:
        return _chosen[key]
    times: dict[Config, float] = {}
    expected: Tensor | None = None
    reason = "there is no candidate"
    for config in configs:
        try:
            written = run(config)
            result = written.float().clone()
            written.fill_(float("nan"))  # so that elements that the next candidate leaves unwritten differ
            if expected is None:
                expected = result
            elif not agrees(result, expected):
                continue
            times[config] = time_ms(lambda config=config: run(config))  # type: ignore[misc]  # bound now, not later
        except Exception as error:  # noqa: BLE001 - compilers raise many kinds, and another candidate may do
            reason = _reason(config, error)
    if not times:
        raise NothingRunsError(f"no tile size runs on this device; the last one tried, {reason}")
    _chosen[key] = min(times, key=times.__getitem__)
    return _chosen[key]


def agrees(one: Tensor, other: Tensor) -> bool:
    """Whether two results agree up to rounding. It only rejects gross errors; the oracle judges the winner."""
    both = one.isfinite() & other.isfinite()
    if not bool((one.isfinite() == other.isfinite()).all()):
        return False
    difference = (one - other).where(both, 0.0).norm()
    return bool(difference <= _DIFFERS * other.where(both, 0.0).norm())
