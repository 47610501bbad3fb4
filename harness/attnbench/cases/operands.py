"""The values of a case's tensors: the same on every machine, in every process, for every implementation.

Each head of each tensor has a random stream of its own, keyed by seed, repetition, tensor, batch element and head.
So a worker can fill a whole tensor while the oracle, for a long sequence, makes only the heads that it judges.
Values are made in float32 (float64 for float64 cases) and rounded to the case's dtype by whoever uses them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.bias import RELATIVE_BUCKETS
from attnbench.cases.case import FILE_INPUTS, CaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attnbench.cases.case import Case

# Part of the random stream's key: append, never reorder.
_STREAMS = ("q", "k", "v", "dout", "w_q", "w_k", "w_v", "w_o", "relative_bias", "sinks")


def operand_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that a call of this case is given, by name.

    ``attention``: ``q`` (batch, heads_q, seqlen_q, head_dim), ``k`` and ``v`` likewise with heads_kv and seqlen_kv.
    ``multi_head_attention``: ``q``, ``k``, ``v`` are the inputs of the projections, (batch, seqlen, embed_dim), beside
    the weights ``w_q``, ``w_k``, ``w_v`` (embed_dim, heads * dim) and ``w_o`` (heads_q * head_dim_v, embed_dim).
    Either has ``dout``, shaped like the output, where gradients are asked for; ``relative_bias`` (heads_q, 32) and
    ``sinks`` (heads_q,) where the score modification needs them.
    """
    b, width = case.batch, case.embed_dim
    shapes: dict[str, tuple[int, ...]]
    if case.operator == "multi_head_attention":
        shapes = {
            "q": (b, case.seqlen_q, width),
            "k": (b, case.seqlen_kv, width),
            "v": (b, case.seqlen_kv, width),
            "w_q": (width, case.heads_q * case.head_dim),
            "w_k": (width, case.heads_kv * case.head_dim),
            "w_v": (width, case.heads_kv * case.head_dim_v),
            "w_o": (case.heads_q * case.head_dim_v, width),
        }
    else:
        shapes = {
            "q": (b, case.heads_q, case.seqlen_q, case.head_dim),
            "k": (b, case.heads_kv, case.seqlen_kv, case.head_dim),
            "v": (b, case.heads_kv, case.seqlen_kv, case.head_dim_v),
        }
    if case.needs_gradients:
        shapes["dout"] = output_shape(case)
    if case.score_mod == "relative_bias":
        shapes["relative_bias"] = (case.heads_q, RELATIVE_BUCKETS)
    if case.score_mod == "sink":
        shapes["sinks"] = (case.heads_q,)
    return shapes


def output_shape(case: Case) -> tuple[int, ...]:
    """(batch, heads_q, seqlen_q, head_dim_v), or (batch, seqlen_q, embed_dim) behind an output projection."""
    if case.operator == "multi_head_attention":
        return (case.batch, case.seqlen_q, case.embed_dim)
    return (case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)


def operand(case: Case, name: str, repetition: int = 0) -> NDArray[np.floating]:
    """One whole tensor of the case, in the canonical shape of :func:`operand_shapes`.

    Args:
        case: the problem.
        name: which tensor.
        repetition: another number gives other values of the same distribution.

    Raises:
        CaseError: where the inputs come from a file which does not hold them.
    """
    shape = operand_shapes(case)[name]
    if case.inputs.startswith(FILE_INPUTS) and name in ("q", "k", "v", "dout"):
        return _from_file(case, name, shape, repetition)
    if name not in ("q", "k", "v", "dout") or case.operator == "multi_head_attention":
        return _parameter(case, name, shape, repetition)
    if case.strides == "expanded_kv" and name in ("k", "v"):
        one = np.stack([operand_head(case, name, b, 0, repetition) for b in range(shape[0])])
        return np.repeat(one[:, None], shape[1], axis=1)
    values = np.empty(shape, _host_dtype(case))
    for b in range(shape[0]):
        for head in range(shape[1]):
            values[b, head] = operand_head(case, name, b, head, repetition)
    return values


def operand_head(case: Case, name: str, batch_index: int, head: int, repetition: int = 0) -> NDArray[np.floating]:
    """One head of ``q``, ``k``, ``v`` or ``dout`` of an ``attention`` case, shape ``(seqlen, dim)``."""
    shape = operand_shapes(case)[name]
    if case.inputs.startswith(FILE_INPUTS):
        head_of_file: NDArray[np.floating] = _from_file(case, name, shape, repetition)[batch_index, head]
        return head_of_file
    if case.strides == "expanded_kv" and name in ("k", "v"):
        head = 0  # every head is the same memory
    generator = _stream(case, name, repetition, batch_index, head)
    values = _FAMILIES[case.inputs](generator, name, shape[2:])
    return values.astype(_host_dtype(case), copy=False)


def _host_dtype(case: Case) -> type[np.floating]:
    return np.float64 if case.dtype == "float64" else np.float32


def _stream(case: Case, name: str, repetition: int, *index: int) -> np.random.Generator:
    # Weights, biases and sinks belong to the model, not to the example: they stay the same from call to call.
    turn = repetition if name in ("q", "k", "v", "dout") else 0
    return np.random.Generator(np.random.SFC64([case.seed, turn, _STREAMS.index(name), *index]))


def _parameter(case: Case, name: str, shape: tuple[int, ...], repetition: int) -> NDArray[np.floating]:
    values = _stream(case, name, repetition).standard_normal(shape, np.float32)
    if name.startswith("w_"):
        values /= np.float32(np.sqrt(shape[0]))  # keeps the projections' outputs at unit variance
    return values.astype(_host_dtype(case), copy=False)


def _from_file(case: Case, name: str, shape: tuple[int, ...], repetition: int) -> NDArray[np.floating]:
    path = Path(case.inputs.removeprefix(FILE_INPUTS))
    try:
        values = _array_of(path, name).astype(_host_dtype(case), copy=False)
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise CaseError([f"inputs = {case.inputs!r}: no array {name!r} could be read: {error}"]) from error
    if values.shape != shape:
        raise CaseError([f"inputs = {case.inputs!r}: {name} has shape {values.shape}, the case says {shape}"])
    # Another repetition must have other values: turning the sign of V turns the sign of the output.
    return -values if name == "v" and repetition % 2 else values


def _array_of(path: Path, name: str) -> NDArray[np.generic]:
    # The file is opened here: numpy leaves it open where the archive is broken.
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise TypeError("it holds a single array without a name; numpy.savez writes several")
        array: NDArray[np.generic] = arrays[name]
        return array


def _normal(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal. Never uniform: a flat softmax hides kernels that ignore Q and K."""
    del name
    return generator.standard_normal(shape, np.float32)


def _outlier(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """N(0,1) + N(0,100) * Bernoulli(0.001), as FlashAttention-3 (Shah et al. 2024, section 4.3) tests low precision."""
    values = _normal(generator, name, shape)
    return values + np.float32(10) * _normal(generator, name, shape) * (generator.random(shape, np.float32) < 0.001)


def _large_logits(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Scores far beyond the range of exp: a softmax that does not subtract the row's maximum overflows."""
    values = _normal(generator, name, shape)
    return values * np.float32(16) if name in ("q", "k") else values


def _constant(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Every key the same, so all scores of a row tie and the answer is the mean of the visible values."""
    values = _normal(generator, name, shape)
    return np.broadcast_to(values[:1], shape) if name == "k" else values


_FAMILIES: dict[str, Callable[[np.random.Generator, str, tuple[int, ...]], NDArray[np.float32]]] = {
    "normal": _normal,
    "outlier": _outlier,
    "large_logits": _large_logits,
    "constant": _constant,
}
