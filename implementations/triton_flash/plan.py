"""The plan of a case, prepared before its first call: bounds of the mask, kernels, tile sizes."""

from __future__ import annotations

import math
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench import alibi_slopes, is_bidirectional, relative_buckets, row_bounds

from .lists import LISTED_KINDS, block_lists
from .tuning import Config, Kernel, candidates, choose, first_that_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench import Case, Operands

MOST_DECODED_ROWS = 64
"""Keys are split among programs up to this many queries of a group of heads."""
LEAST_TUNED_PAIRS = 2**20
"""Below this many query-key pairs over all heads, tile sizes are not tuned: compiling takes longer than a run."""
LEAST_DESCRIBED_PAIRS = 2**24
"""Below this many query-key pairs over all heads pointers are used: making three descriptors takes the host 30 us."""
_MOST_SPLITS = 64
_FLOAT8_SHIFT = 8
"""Weights are at most 1, so at most 256 after the shift; the largest float8_e4m3fn is 448."""


class Plan:
    """The kernels, and their arguments other than the tensors of a call.

    Args:
        case: the problem.
        operands: tensors of the shapes, strides and device that calls will have.
        configs: tile sizes by kernel, instead of chosen ones.
        tma: whether tiles are loaded through tensor descriptors; by default if device and strides permit.
    """

    def __init__(
        self,
        case: Case,
        operands: Operands,
        *,
        configs: Mapping[Kernel, Config] | None = None,
        tma: bool | None = None,
    ) -> None:
        import torch

        self.case, self.device = case, operands.q.device
        self.interpreted = self.device.type == "cpu"
        self.tiles = load("tiles", interpreted=self.interpreted)
        self.paged = case.kv_cache == "paged"
        self.lists_blocks = not LISTED_KINDS.isdisjoint(case.mask_kinds)
        self.decodes = self.paged or (is_decoding(case) and not self.lists_blocks)
        self.element_bytes = operands.q.element_size()
        self.out_dtype = getattr(torch, case.output_dtype)
        pairs = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv
        self.tma = pairs > LEAST_DESCRIBED_PAIRS and may_use_tma(operands, self.device) if tma is None else tma
        self.tma = self.tma and not self.decodes
        self.overlaps_merge = not self.interpreted and torch.cuda.get_device_properties(self.device).major >= 9
        """Whether decoding's merge is launched while the parts are running (programmatic dependent launch)."""
        self.rule = rule_of(case, self.tiles)
        self.bounds = tuple(torch.from_numpy(array).to(self.device) for array in bounds_of(case, self.rule, self.tiles))
        self.size = self.tiles.Sizes(
            case.heads_q, case.heads_q // case.heads_kv, case.seqlen_q, case.seqlen_kv, case.head_dim, case.head_dim_v,
            case.diagonal_offset,
        )  # fmt: skip
        table = score_table(case, operands)
        self.mod = mod_of(case, self.tiles)
        self.scoring = self.tiles.Scoring(case.scale, case.softcap or 1.0, torch.from_numpy(table).to(self.device))
        self.sinks = operands.sinks
        self.table = operands.block_table
        least = 32 if self.element_bytes == 1 else 16
        self.block_d, self.block_dv = power_of_two(case.head_dim, least), power_of_two(case.head_dim_v, least)
        self.used: dict[Kernel, Config] = dict(configs or {})
        """Tile sizes by kernel."""
        self._lists: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        """By tile sizes."""
        self.programs_each = 2
        """Number of decoding programs per multiprocessor."""

    def keys(self, config: Config) -> tuple[Tensor, Tensor, Tensor]:
        """How kernels know which keys a query sees: bounds and a dummy, or a list of blocks and its patterns."""
        if not self.lists_blocks:
            return self.bounds[0], self.bounds[1], self.bounds[0]
        starts, entries, _, _, patterns = self._lists_of(config)
        return starts, entries, patterns

    def queries(self, config: Config) -> tuple[Tensor, Tensor, Tensor]:
        """The same for the queries that see a key."""
        if not self.lists_blocks:
            return self.bounds[2], self.bounds[3], self.bounds[2]
        _, _, starts, entries, patterns = self._lists_of(config)
        return starts, entries, patterns

    def _lists_of(self, config: Config) -> tuple[Tensor, ...]:
        """The lists of ``lists.py`` for these tile sizes: two of queries, two of keys, and the patterns."""
        import torch

        size = (config.block_m, config.block_n)
        if size not in self._lists:
            made = block_lists(self.case, *size)
            arrays = (*made.of_queries, *made.of_keys, made.patterns)
            self._lists[size] = tuple(torch.from_numpy(array).to(self.device) for array in arrays)
        return self._lists[size]

    def common(self) -> dict[str, Any]:
        """Return the arguments that all kernels share, except tile sizes."""
        return {
            "BLOCK_D": self.block_d,
            "BLOCK_DV": self.block_dv,
            "RULE": self.rule.value,
            "MOD": self.mod.value,
            # TF32 keeps 10 bits of an operand; three products of its two parts keep 21, nearly float32's 23.
            "PRECISION": "ieee" if self.interpreted else "tf32x3",
            "DROP": self.drop,
        }

    @property
    def drop(self) -> int:
        """Bits that are rounded off in the interpreter instead of by hardware, see ``tiles.rounded``; 0 on a GPU."""
        return {"bfloat16": 16, "float8_e4m3fn": 20}.get(self.case.dtype, 0) if self.interpreted else 0

    def even(self) -> dict[str, bool]:
        """Return whether the head dims fill their tiles."""
        return {"EVEN_DIM": self.block_d == self.case.head_dim, "EVEN_DIM_V": self.block_dv == self.case.head_dim_v}

    @property
    def shift(self) -> int:
        """Power of two by which weights are multiplied before they are rounded to V's dtype."""
        return _FLOAT8_SHIFT if self.element_bytes == 1 else 0

    def strides(self, tensor: Tensor) -> Any:
        """Return a tensor's strides in the kernels' form."""
        return self.tiles.Strides(*tensor.stride())

    def __str__(self) -> str:
        """Name the kernels that run, for a record."""
        loads = "tensor descriptors" if self.tma else "pointers"
        return f"{', '.join(f'{kernel} {config}' for kernel, config in self.used.items())}; {loads}"

    def source(self, tensor: Tensor, rows: int, columns: int) -> Any:
        """Return the source of a kernel's tiles of (rows, columns): a descriptor, or the tensor."""
        if not self.tma:
            return tensor
        from triton.tools.tensor_descriptor import TensorDescriptor

        return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), [1, 1, rows, columns])

    def config(self, kernel: Kernel, run: Any) -> Config:
        """Return the tile sizes for a kernel: those given, or the fastest on a GPU, or the seed in the interpreter."""
        if kernel not in self.used:
            possible = self.candidates(kernel)
            if self.interpreted:
                self.used[kernel] = possible[0]
            elif self.case.batch * self.case.heads_q * self.case.seqlen_q * self.case.seqlen_kv < LEAST_TUNED_PAIRS:
                self.used[kernel] = first_that_runs(possible, run)
            else:
                self.used[kernel] = choose(self._kind(kernel), possible, run, _median_ms)
        return self.used[kernel]

    def candidates(self, kernel: Kernel) -> list[Config]:
        """Return the tile sizes to try for this case."""
        rows = self.case.seqlen_q * self.size.group
        dims = (self.case.head_dim, self.case.head_dim_v)
        of_score = 4 * ("relative_bias" in self.case.score_mods) + self.lists_blocks  # a bias, and a pattern's byte
        return candidates(kernel, *dims, self.element_bytes, rows, of_score)

    def _kind(self, kernel: Kernel) -> tuple[Any, ...]:
        """Return the key under which tile sizes are remembered: lengths count only by order of magnitude."""
        case = self.case
        magnitude = tuple(length.bit_length() for length in (case.batch * case.heads_q, case.seqlen_q, case.seqlen_kv))
        dims = (case.head_dim, case.head_dim_v, self.size.group)
        return (kernel, case.dtype, *dims, self.rule.value, self.mod.value, self.tma, *magnitude)

    def splits(self, config: Config, row_blocks: int) -> tuple[int, int]:
        """Return the number of stretches of keys, for ``programs_each`` programs per SM, and the keys per stretch.

        A stretch has at least two tiles; the interpreter pretends to have a few SMs, so that it also splits.
        """
        import torch

        processors = 4 if self.interpreted else torch.cuda.get_device_properties(self.device).multi_processor_count
        wanted = max(1, self.programs_each * processors // (self.case.batch * self.case.heads_kv * row_blocks))
        most = max(1, self.case.seqlen_kv // (2 * config.block_n))
        splits = min(wanted, most, _MOST_SPLITS)
        each = -(-self.case.seqlen_kv // splits)
        each = -(-each // config.block_n) * config.block_n
        return -(-self.case.seqlen_kv // each), each


def is_decoding(case: Case) -> bool:
    """Whether queries are so few, and keys so many, that the keys are split among programs."""
    rows = case.seqlen_q * case.heads_q // case.heads_kv
    few = rows <= MOST_DECODED_ROWS and case.seqlen_kv >= max(128, 8 * case.seqlen_q)
    return few and not case.needs_gradients


def may_use_tma(operands: Operands, device: Any) -> bool:
    """Whether Hopper's copy engine takes these tensors: 16-byte alignment, contiguous last axis, sizes below 2^31.

    CUDA Driver API, cuTensorMapEncodeTiled.
    """
    import torch

    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        return False
    tensors = [t for t in (operands.q, operands.k, operands.v, operands.dout) if t is not None]
    return all(fits_descriptor(tensor) for tensor in tensors)


def fits_descriptor(tensor: Tensor) -> bool:
    """Whether one tensor meets the conditions of :func:`may_use_tma`."""
    size = tensor.element_size()
    outer = tensor.stride()[:-1]
    aligned = tensor.data_ptr() % 16 == 0 and all(stride > 0 and stride * size % 16 == 0 for stride in outer)
    return aligned and tensor.stride(-1) == 1 and tensor.dim() == 4


def rule_of(case: Case, tiles: Any) -> Any:
    """How kernels learn what a query sees: by arithmetic where that is all, or a triangle; else from lists."""
    if not LISTED_KINDS.isdisjoint(case.mask_kinds):
        return tiles.BLOCKS
    return {"none": tiles.ALL, "causal": tiles.CAUSAL}.get(case.mask, tiles.LISTED)


def mod_of(case: Case, tiles: Any) -> Any:
    """Return the score modification in the kernels' form."""
    named = {"softcap": tiles.SOFTCAP, "alibi": tiles.ALIBI, "relative_bias": tiles.RELATIVE}
    return next((named[mod] for mod in case.score_mods if mod in named), tiles.PLAIN)


def bounds_of(case: Case, rule: Any, tiles: Any) -> list[NDArray[np.int32]]:
    """Return the mask's lists: the bounds of each query's keys, and of each key's queries (first, one past the last).

    Returns:
        Two lists (batch, seqlen_q) and two (batch, seqlen_kv); a single number each if no list is read.
    """
    if rule is not tiles.LISTED:
        return [np.zeros(1, np.int32)] * 4
    rows = [row_bounds(case, b) for b in range(case.batch)]
    columns = [column_bounds(low, high, case.seqlen_kv) for low, high in rows]
    return [np.stack(arrays).astype(np.int32) for arrays in (*zip(*rows, strict=True), *zip(*columns, strict=True))]


def column_bounds(
    low: NDArray[np.int64], high: NDArray[np.int64], seqlen_kv: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, from the queries' bounds, the first query that sees each key, and the one past the last.

    Raises:
        ValueError: if bounds decrease from one query to a later one, so that a key's queries are not a single run.
    """
    if np.any(np.diff(low) < 0) or np.any(np.diff(high) < 0):
        raise ValueError("the bounds of this mask do not move forwards only")
    keys = np.arange(seqlen_kv)
    first = np.searchsorted(high, keys, side="right")  # runs of earlier queries end before the key
    beyond = np.searchsorted(low, keys, side="right")  # runs of queries from there on start after the key
    return first, np.maximum(first, beyond)


def score_table(case: Case, operands: Operands) -> NDArray[np.float32]:
    """Return ALiBi's slopes, or T5's biases by distance (see ``tiles.Scoring``); a dummy if there is neither."""
    if "alibi" in case.score_mods:
        return alibi_slopes(case.heads_q).astype(np.float32)
    if operands.relative_bias is None:
        return np.zeros(1, np.float32)
    distance = np.arange(1 - case.seqlen_q, case.seqlen_kv) - case.diagonal_offset
    buckets = relative_buckets(distance, bidirectional=is_bidirectional(case))
    return np.ascontiguousarray(operands.relative_bias.float().cpu().numpy()[:, buckets])


def power_of_two(size: int, least: int = 16) -> int:
    """Round up to a power of two, at least ``least``, as matrix products in Triton require."""
    return max(least, 1 << (size - 1).bit_length())


def load(module: str, *, interpreted: bool) -> Any:
    """Import kernels with or without Triton's interpreter, which is decided when Triton is imported.

    Raises:
        RuntimeError: if this process has already imported Triton the other way.
    """
    if interpreted and os.environ.get("TRITON_INTERPRET") != "1":
        if "triton" in sys.modules:
            raise RuntimeError(
                "Triton was imported by this process before its interpreter was asked for: run this implementation in "
                "a process of its own, or with TRITON_INTERPRET=1 in the environment"
            )
        os.environ["TRITON_INTERPRET"] = "1"
    if not interpreted and os.environ.get("TRITON_INTERPRET") == "1":
        raise RuntimeError("TRITON_INTERPRET=1 is set, so that Triton's interpreter would run in place of the GPU")
    return import_module(f"{__package__}.{module}")


def _median_ms(call: Any) -> float:
    from triton.testing import do_bench

    return float(do_bench(call, warmup=10, rep=30, return_mode="median"))


def blocks(length: int, block: int) -> int:
    """Return the number of tiles in a length."""
    return math.ceil(length / block)
