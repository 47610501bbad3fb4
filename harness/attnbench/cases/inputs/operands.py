"""Generates the values of a case's tensors: the same on every machine, in every process, for every implementation.

Each head of each tensor has its own random stream, keyed by seed, repetition, tensor, batch element and head. A worker
can thus fill a whole tensor while the oracle, for a long sequence, generates only the heads that it judges.
Values are generated in float32 (float64 for float64 cases); the caller rounds them to the case's dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.bias import RELATIVE_BUCKETS
from attnbench.cases.inputs.input_distributions import Head, values
from attnbench.cases.inputs.sampling import upstream_rows
from attnbench.cases.masks.kinds.block_sparse import file_of_blocks
from attnbench.cases.quantised import dequantised
from attnbench.cases.tensors.errors import TensorError
from attnbench.cases.tensors.inputs import INPUTS, input_problem, input_tensor, remembered_tensor
from attnbench.cases.tensors.planes import bias_problem, blocks_problem, mask_problem
from attnbench.cases.tensors.source import FILE_INPUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench.cases.case import Case

OF_QUERIES: tuple[str, ...] = ("q", "dout", "out", "lse", "dq")
"""Operands and outputs with a row per query; ``k``, ``v``, ``dk`` and ``dv`` have a row per key."""

# Part of the random stream's key: append, never reorder.
_STREAMS = ("q", "k", "v", "dout", "w_q", "w_k", "w_v", "w_o", "relative_bias", "sinks")


def operand_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a call of this case takes, by name.

    ``attention``: ``q`` (batch, heads_q, seqlen_q, head_dim), ``k`` and ``v`` likewise with heads_kv and seqlen_kv.
    ``multi_head_attention``: ``q``, ``k``, ``v`` are the inputs of the projections, (batch, seqlen, embed_dim), along
    with the weights ``w_q``, ``w_k``, ``w_v`` (embed_dim, heads * dim) and ``w_o`` (heads_q * head_dim_v, embed_dim).
    Both have ``dout``, shaped like the output, if gradients are requested; ``relative_bias`` (heads_q, 32) and
    ``sinks`` (heads_q,) if the score modification needs them.
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
    if "relative_bias" in case.score_mods:
        shapes["relative_bias"] = (case.heads_q, RELATIVE_BUCKETS)
    if "sink" in case.score_mods:
        shapes["sinks"] = (case.heads_q,)
    return shapes


def output_shape(case: Case) -> tuple[int, ...]:
    """Return (batch, heads_q, seqlen_q, head_dim_v), or (batch, seqlen_q, embed_dim) after an output projection."""
    if case.operator == "multi_head_attention":
        return (case.batch, case.seqlen_q, case.embed_dim)
    return (case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)


def operand(case: Case, name: str, repetition: int = 0) -> NDArray[np.floating]:
    """Generate one whole tensor of the case, in the canonical shape of :func:`operand_shapes`.

    Quantised K and V are returned dequantised, whatever the case's dtype.

    Args:
        case: the problem.
        name: the tensor.
        repetition: each number gives different values of the same distribution.

    Raises:
        TensorError: if the inputs come from a file that does not hold them.
    """
    whole = _left_of(case, name, _operand(case, name, operand_shapes(case)[name], repetition))
    rows = upstream_rows(case, repetition) if name == "dout" else None
    return whole if rows is None else _only_rows(whole, rows)


def _operand(case: Case, name: str, shape: tuple[int, ...], repetition: int) -> NDArray[np.floating]:
    if name == "dout" and case.strides == "summed":
        return np.ones(shape, _host_dtype(case))
    if case.inputs.startswith(FILE_INPUTS) and name in INPUTS:
        stored = input_tensor(case.inputs.removeprefix(FILE_INPUTS), case.inputs_layout, name, shape)
        return _of_file(case, name, stored, repetition)
    if name not in ("q", "k", "v", "dout") or case.operator == "multi_head_attention":
        return _parameter(case, name, shape, repetition)
    if name == "v" and case.kv_cache == "latent":
        return _operand(case, "k", operand_shapes(case)["k"], repetition)[..., : case.head_dim_v]
    if case.strides == "expanded_kv" and name in ("k", "v"):
        one = np.stack([_head(case, name, b, 0, repetition) for b in range(shape[0])])
        return np.repeat(one[:, None], shape[1], axis=1)
    whole = np.empty(shape, _host_dtype(case))
    for b in range(shape[0]):
        for head in range(shape[1]):
            whole[b, head] = _head(case, name, b, head, repetition)
    return whole


def operand_head(case: Case, name: str, batch_index: int, head: int, repetition: int = 0) -> NDArray[np.floating]:
    """Generate one head of ``q``, ``k``, ``v`` or ``dout`` of an ``attention`` case, shape ``(seqlen, dim)``."""
    one = _left_of(case, name, _head(case, name, batch_index, head, repetition))
    rows = upstream_rows(case, repetition) if name == "dout" else None
    return one if rows is None else _only_rows(one, rows)


def _left_of(case: Case, name: str, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Round K and V through ``kv_dtype``, if the case has one; return other tensors unchanged."""
    if case.kv_dtype is None or name not in ("k", "v"):
        return values
    if not np.isfinite(values).all():
        raise TensorError(f"{case.inputs_label()}: {name} is not finite throughout, and {case.kv_dtype} stores numbers")
    return dequantised(values, case.kv_dtype)


def _head(case: Case, name: str, batch_index: int, head: int, repetition: int) -> NDArray[np.floating]:
    shape = operand_shapes(case)[name]
    if name == "dout" and case.strides == "summed":
        return np.ones(shape[2:], _host_dtype(case))
    if case.inputs.startswith(FILE_INPUTS):
        whole = remembered_tensor(case.inputs.removeprefix(FILE_INPUTS), case.inputs_layout, name, shape)
        return _of_file(case, name, whole[batch_index, head].copy(), repetition)
    if name == "v" and case.kv_cache == "latent":
        return _head(case, "k", batch_index, head, repetition)[:, : case.head_dim_v]
    if case.strides == "expanded_kv" and name in ("k", "v"):
        head = 0  # all heads share one memory
    key_head = head // (case.heads_q // case.heads_kv)
    place = Head(case, batch_index, head, keys=lambda: _head(case, "k", batch_index, key_head, repetition))
    generator = _stream(case, name, repetition, batch_index, head)
    return values(place, name, (shape[2], shape[3]), generator).astype(_host_dtype(case), copy=False)


def _only_rows(whole: NDArray[np.floating], rows: tuple[int, ...]) -> NDArray[np.floating]:
    """Set all rows to zero except ``rows``, along the second axis from the end."""
    sparse = np.zeros_like(whole)
    sparse[..., rows, :] = whole[..., rows, :]
    return sparse


def _host_dtype(case: Case) -> type[np.floating]:
    return np.float64 if case.dtype == "float64" else np.float32


def _stream(case: Case, name: str, repetition: int, *index: int) -> np.random.Generator:
    # Weights, biases and sinks belong to the model, not to the input: they stay the same from call to call.
    turn = repetition if name in ("q", "k", "v", "dout") else 0
    return np.random.Generator(np.random.SFC64([case.seed, turn, _STREAMS.index(name), *index]))


def _parameter(case: Case, name: str, shape: tuple[int, ...], repetition: int) -> NDArray[np.floating]:
    drawn = _stream(case, name, repetition).standard_normal(shape, np.float32)
    if name.startswith("w_"):
        drawn /= np.float32(np.sqrt(shape[0]))  # keeps the projections' outputs at unit variance
    return drawn.astype(_host_dtype(case), copy=False)


def file_problems(case: Case) -> list[str]:
    """Return a sentence for each tensor that its file does not hold. Inputs are checked by their headers only."""
    problems: list[str | None] = []
    if case.inputs.startswith(FILE_INPUTS):
        text = case.inputs.removeprefix(FILE_INPUTS)
        shapes = {name: shape for name, shape in operand_shapes(case).items() if name in INPUTS}
        problems += [input_problem(text, case.inputs_layout, name, shape) for name, shape in shapes.items()]
    if case.mask_file is not None:
        problems.append(mask_problem(case.mask_file, case.batch, case.seqlen_q, case.seqlen_kv))
    if case.mask_blocks is not None and (path := file_of_blocks(case.mask_blocks)) is not None:
        size = case.mask_block_size or 1
        problems.append(blocks_problem(path, -(-case.seqlen_q // size), -(-case.seqlen_kv // size)))
    if case.bias_file is not None:
        problems.append(bias_problem(case.bias_file, case.batch, case.heads_q, case.seqlen_q, case.seqlen_kv))
    return [problem for problem in problems if problem]


def has_finite_operands(case: Case) -> bool:
    """Whether all values are finite. Only values of a file can be infinite or NaN."""
    if not case.inputs.startswith(FILE_INPUTS):
        return True
    names = [name for name in operand_shapes(case) if name in INPUTS]
    return all(bool(np.isfinite(operand(case, name)).all()) for name in names)


def _of_file(case: Case, name: str, stored: NDArray[np.generic], repetition: int) -> NDArray[np.floating]:
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, as in any conversion
        array = stored.astype(_host_dtype(case), copy=False)
    # Odd repetitions must have other values: negating V negates the output.
    return -array if name == "v" and repetition % 2 else array
