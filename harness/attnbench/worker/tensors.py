"""Creates a case's tensors in the framework, layout and strides that an implementation declares.

This is done before anything is timed, so that no transpose or copy is timed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ascontiguousarray  # bound before a plug-in can replace it

from attnbench.cases.bias import tensor_bias
from attnbench.cases.dropout import dropout_seed
from attnbench.cases.inputs.operands import operand, operand_shapes
from attnbench.cases.inputs.sign_flips import score_signs, value_signs
from attnbench.cases.masks.kinds.ragged import key_lengths
from attnbench.cases.quantised import quantised
from attnbench.registry.operands import Operands, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.cases.inputs.sample_inputs import Inputs
    from attnbench.registry.implementation import Declaration

_ROTATED = ("q", "k", "v", "dout")
_PER_MODEL = ("relative_bias", "sinks")  # small, and stored in float32 at least


def place(
    case: Case, said: Declaration, device: str, given: Mapping[str, NDArray[np.floating]] | None = None
) -> Operands:
    """Return all operands of a case (repetition 0), placed as the implementation declares.

    ``given`` values, in the canonical shape, replace the case's own.
    """
    placed: dict[str, Tensor] = {}
    for name in operand_shapes(case):
        values = given[name] if given and name in given else operand(case, name)
        if name == "v" and case.kv_cache == "latent":
            placed[name] = values_within(case, placed["k"])
        elif name in _PER_MODEL:
            placed[name] = _to_framework(values, None, said.framework, device)
        elif case.kv_dtype is not None and name in ("k", "v"):
            placed |= {
                part: _to_framework(numbers, dtype, said.framework, device)
                for part, (numbers, dtype) in _quantised_parts(case, said.layout, name, values).items()
            }
        elif name in _ROTATED and case.operator == "attention" and case.kv_cache != "paged":
            placed[name] = _lay_out(case, said, name, values, device)
        else:
            placed[name] = _to_framework(values, case.dtype, said.framework, device)
    if case.kv_cache == "paged":
        placed |= _pages(case, said, device, given or {})
    if case.dropout is not None:
        placed["dropout_seed"] = np.array([dropout_seed(case, 0)])
    if case.bias_grad:
        placed["bias"] = _to_framework(np.array(tensor_bias(case)), case.dtype, said.framework, device)
    return Operands(**placed)


def refresh(case: Case, said: Declaration, operands: Operands, repetition: int) -> Operands:
    """Write another repetition's values to q, k, v and dout, in place if the framework has in-place writes."""
    if operands.dropout_seed is not None:
        operands.dropout_seed[...] = dropout_seed(case, repetition)
    return rewrite(case, said, operands, lambda name: operand(case, name, repetition))


def rewrite(
    case: Case, said: Declaration, operands: Operands, values_of: Callable[[str], NDArray[np.floating]]
) -> Operands:
    """Write other values to q, k, v and dout like :func:`refresh`; ``values_of(name)`` has the canonical shape."""
    fresh: dict[str, Tensor] = {}
    for name in _ROTATED:
        tensor = getattr(operands, name)
        if tensor is None:
            continue
        if name == "v" and case.kv_cache == "latent":
            fresh[name] = values_within(case, fresh["k"])
            continue
        values = values_of(name)
        if case.kv_dtype is not None and name in ("k", "v"):
            for part, (numbers, _) in _quantised_parts(case, said.layout, name, values).items():
                fresh[part] = _write(getattr(operands, part), numbers, said.framework)
            continue
        if case.kv_cache == "paged" and name in ("k", "v"):
            values = _paged_values(case, values)
        elif case.operator == "attention":
            values = laid_out(values, said.layout)
        fresh[name] = _overwrite(tensor, values, case, said.framework)
    return dataclasses.replace(operands, **fresh)


def flip_signs(case: Case, said: Declaration, operands: Operands, number: int) -> Operands:
    """Flip signs of heads, from flip index ``number - 1`` to ``number`` (``cases/inputs/sign_flips.py``).

    Tensors are changed in place if the framework has in-place writes.
    """
    of_values, of_scores = (signs(case, number) != signs(case, number - 1) for signs in (value_signs, score_signs))
    of_queries = of_scores.repeat(case.heads_q // case.heads_kv, axis=1)
    changes = {"v": of_values, "k": of_scores, "q": of_queries}
    if case.kv_cache == "latent":
        del changes["v"]  # part of k
    flipped = {name: _flipped(case, said, operands, name, change) for name, change in changes.items()}
    if case.kv_cache == "latent":
        flipped["v"] = values_within(case, flipped["k"])
    return dataclasses.replace(operands, **flipped)


def values_within(case: Case, latent: Any) -> Any:
    """Return the values of a latent cache: its first columns, as a view if the framework has views."""
    return latent[..., : case.head_dim_v]


def _flipped(case: Case, said: Declaration, operands: Operands, name: str, change: NDArray[np.bool_]) -> Any:
    """Negate the heads of a tensor that change; ``change`` has the shape (batch, heads)."""
    tensor = getattr(operands, name)
    if not change.any():
        return tensor
    if said.framework == "jax":
        signs = np.where(change, -1.0, 1.0)[..., None, None]
        whole = np.broadcast_to(signs, (*change.shape, case.seqlen_q if name == "q" else case.seqlen_kv, 1))
        factor = signs[:, 0] if case.operator != "attention" else laid_out(whole, said.layout)
        return tensor * factor.astype(tensor.dtype)
    all_are_one = case.operator != "attention" or (case.strides == "expanded_kv" and name != "q")
    for batch_index, heads in enumerate(change):
        for head in np.flatnonzero(heads[:1] if all_are_one else heads):
            _negate_all(_values_of(case, said.layout, name, tensor, batch_index, int(head)))
    return tensor


def queries_in_a_row(case: Case, said: Declaration, device: str, repetition: int) -> Any:
    """Return all queries of each batch element, head after head, shape (batch, heads * seqlen_q, head_dim)."""
    values = operand(case, "q", repetition).reshape(case.batch, case.heads_q * case.seqlen_q, case.head_dim)
    return _to_framework(values, case.dtype, "torch", device) if said.framework == "torch" else values


def move_queries(case: Case, said: Declaration, operands: Operands, queries: Any, inputs: Inputs) -> Operands:
    """Write moved queries with their signs; see :mod:`attnbench.cases.inputs.sample_inputs`.

    ``queries`` is the result of :func:`queries_in_a_row`; q is written in place if the framework has in-place writes.
    """
    signs = score_signs(case, inputs.flip_index).repeat(case.heads_q // case.heads_kv, axis=1)[..., None, None]
    shape = (case.batch, case.heads_q, case.seqlen_q, case.head_dim)
    if said.framework == "torch":
        moved = queries.roll(inputs.moved, 1).reshape(shape) * queries.new_tensor(signs)
        operands.q.copy_(laid_out(moved, said.layout))
        return operands
    values = laid_out(np.roll(queries, inputs.moved, 1).reshape(shape) * signs, said.layout)
    return dataclasses.replace(operands, q=_overwrite(operands.q, values, case, said.framework))


def _values_of(case: Case, layout: str, name: str, tensor: Any, batch_index: int, head: int) -> list[Any]:
    """Return views of one head of q, k or v."""
    if case.operator != "attention":
        return [tensor[batch_index]]
    if case.kv_cache == "paged" and name != "q":
        pages = _page_table(case).reshape(case.batch, -1)[batch_index]  # a ragged batch is one element
        return [tensor[page, :, head] for page in np.unique(pages).tolist()]
    if layout == "packed":
        length = case.seqlen_q if name == "q" else case.seqlen_kv
        return [tensor[batch_index * length : (batch_index + 1) * length, head]]
    return [tensor[batch_index, head] if layout == "bhsd" else tensor[batch_index, :, head]]


def _negate_all(parts: list[Any]) -> None:
    for part in parts:
        if isinstance(part, np.ndarray):
            np.negative(part, out=part)
        elif (
            part.element_size() == 1 and part.is_floating_point()
        ):  # float8: torch cannot negate it, so flip the sign bit
            import torch

            part.view(torch.uint8).bitwise_xor_(0x80)
        else:
            part.neg_()


def laid_out(tensor: Any, layout: str) -> Any:
    """Convert (batch, heads, seqlen, dim) to a layout, in any framework; a view if possible."""
    if layout == "bhsd":
        return tensor
    tokens_first = _swap(tensor, 1, 2)
    return tokens_first if layout == "bshd" else tokens_first.reshape(-1, *tokens_first.shape[2:])


def _quantised_parts(
    case: Case, layout: str, name: str, values: NDArray[np.floating]
) -> dict[str, tuple[NDArray[np.floating], str | None]]:
    """Return quantised K or V in the layout: the stored numbers and their scales, each with its dtype."""
    assert case.kv_dtype is not None
    stored, scale = quantised(values, case.kv_dtype)
    return {
        name: (ascontiguousarray(laid_out(stored, layout)), case.kv_dtype),
        f"{name}_scale": (ascontiguousarray(laid_out(scale[..., None], layout)[..., 0]), None),
    }


def _lay_out(case: Case, said: Declaration, name: str, values: NDArray[np.floating], device: str) -> Any:
    """Return a tensor of the declared layout with the memory order of ``case.strides``."""
    shaped = ascontiguousarray(laid_out(values, said.layout))
    if name == "dout" and case.strides == "summed":
        one = _to_framework(shaped.reshape(-1)[:1].reshape((1,) * shaped.ndim), case.dtype, said.framework, device)
        return _expanded(one, shaped.shape) if said.framework == "numpy" else one.expand(shaped.shape)
    if case.strides in ("contiguous", "summed") or (name == "dout" and case.strides != "transposed"):
        return _to_framework(shaped, case.dtype, said.framework, device)
    axis = {"bhsd": 2, "bshd": 1, "packed": 0}[said.layout]  # of the tokens
    heads_axis = 1 if said.layout in ("bhsd", "packed") else 2
    if case.strides == "transposed":
        # The memory order of the other common layout: heads and tokens swapped.
        base = ascontiguousarray(np.swapaxes(shaped, axis, heads_axis))
        return _swap(_to_framework(base, case.dtype, said.framework, device), axis, heads_axis)
    if case.strides == "qkv_slice":
        # Cut from the one buffer that a fused projection writes: q, k and v next to each other in the last axis. The
        # others' places hold NaN, which shows if a kernel reads them.
        base = np.full((*shaped.shape[:-1], 3 * shaped.shape[-1]), np.nan, shaped.dtype)
        position = _ROTATED.index(name) * shaped.shape[-1]
        whole = _to_framework(base, case.dtype, said.framework, device)
        part = whole[..., position : position + shaped.shape[-1]]
        return _write(part, shaped, said.framework)
    if case.strides == "sliced":
        # The first tokens of a longer buffer, as in a cache with room to grow; the rest holds NaN.
        base = np.concatenate([shaped, np.full_like(shaped, np.nan)], axis=axis)
        whole = _to_framework(base, case.dtype, said.framework, device)
        return whole[(slice(None),) * axis + (slice(0, shaped.shape[axis]),)]
    if name == "q":
        return _to_framework(shaped, case.dtype, said.framework, device)
    one = ascontiguousarray(np.take(shaped, [0], axis=heads_axis))
    placed = _to_framework(one, case.dtype, said.framework, device)
    return _expanded(placed, shaped.shape) if said.framework == "numpy" else placed.expand(shaped.shape)


def _expanded(one: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    """Return a writable ``numpy.broadcast_to``, as the harness changes the values between calls."""
    strides = np.broadcast_to(one, shape).strides
    return np.lib.stride_tricks.as_strided(one, shape, strides, writeable=True)


def _swap(tensor: Any, a: int, b: int) -> Any:
    """Exchange two axes by the method that NumPy, torch and JAX share."""
    return tensor.swapaxes(a, b)


def _to_framework(values: NDArray[Any], dtype: str | None, framework: str, device: str) -> Any:
    if framework == "torch":
        import torch

        tensor = torch.from_numpy(ascontiguousarray(values))
        wanted = getattr(torch, dtype) if dtype else tensor.dtype
        return tensor.to(device=device, dtype=wanted, copy=True)
    if framework == "jax":
        import jax.numpy as jnp

        return jnp.asarray(values, dtype or values.dtype)
    return np.array(values, dtype=np.dtype(dtype) if dtype else values.dtype)


def _write(tensor: Any, values: NDArray[np.floating], framework: str) -> Any:
    """Overwrite a tensor's values in its memory."""
    if framework == "torch":
        import torch

        tensor.copy_(torch.from_numpy(ascontiguousarray(values)).to(tensor.dtype))
    else:
        tensor[...] = values
    return tensor


def _overwrite(tensor: Any, values: NDArray[np.floating], case: Case, framework: str) -> Any:
    if framework == "jax":  # jax arrays are immutable: fresh values are a fresh array
        return _to_framework(values, case.dtype, framework, "cpu")
    if case.strides == "summed" and 0 in _strides(tensor):
        return tensor  # it is always one
    if case.strides == "expanded_kv" and 0 in _strides(tensor):
        # All heads are one head's memory: write that one.
        axis = _strides(tensor).index(0)
        first = (slice(None),) * axis + (slice(0, 1),)
        _write(tensor[first], values[first], framework)
        return tensor
    return _write(tensor.detach() if framework == "torch" else tensor, values, framework)


def _strides(tensor: Any) -> tuple[int, ...]:
    strides: tuple[int, ...] = tensor.strides if isinstance(tensor, np.ndarray) else tensor.stride()
    return strides


def _pages(case: Case, said: Declaration, device: str, given: Mapping[str, NDArray[np.floating]]) -> dict[str, Tensor]:
    """Return K and V cut into shuffled pages, and the table of each sequence's pages."""
    pages = {}
    for name in ("k", "v"):
        values = given[name] if name in given else operand(case, name)
        pages[name] = _to_framework(_paged_values(case, values), case.dtype, said.framework, device)
    return {**pages, "block_table": _to_framework(_page_table(case).astype(np.int32), None, said.framework, device)}


def _page_table(case: Case) -> NDArray[np.int64]:
    """Places of the pages of each sequence, (batch or requests, most pages of one); short rows end in the last page."""
    assert case.page_size is not None
    counts = -(-key_lengths(case) // case.page_size)
    own = np.arange(counts.max(initial=0)) < counts[:, None]
    pages = int(counts.sum())
    table = np.full(own.shape, pages)
    table[own] = np.random.default_rng(case.seed).permutation(pages)
    return table


def _slots(case: Case) -> NDArray[np.int64]:
    """The place of each key in the pages, in tokens: (all keys of the batch,)."""
    assert case.page_size is not None
    lengths, table = key_lengths(case), _page_table(case)
    which = np.arange(len(lengths)).repeat(lengths)
    key = np.arange(len(which)) - (np.cumsum(lengths) - lengths)[which]
    slots: NDArray[np.int64] = table[which, key // case.page_size] * case.page_size + key % case.page_size
    return slots


def _paged_values(case: Case, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """From (batch, heads, seqlen, dim) to (pages, page_size, heads, dim); room beyond a sequence holds NaN.

    So does a last page, which belongs to none: short rows of the table are filled up with it.
    """
    assert case.page_size is not None
    heads, dim = values.shape[1], values.shape[3]
    pages = int((-(-key_lengths(case) // case.page_size)).sum()) + (case.requests is not None)
    tokens = np.full((pages * case.page_size, heads, dim), np.nan, values.dtype)
    tokens[_slots(case)] = values.swapaxes(1, 2).reshape(-1, heads, dim)
    return tokens.reshape(pages, case.page_size, heads, dim)


def inputs_of(case: Case, layout: str, operands: Operands) -> dict[str, NDArray[np.floating]]:
    """Return copies of the current values of q, k, v and dout in the canonical shape, in float32 or float64."""
    found = {}
    for name in _ROTATED:
        tensor = getattr(operands, name)
        if tensor is None:
            continue
        if case.kv_dtype is not None and name in ("k", "v"):
            tensor = as_array(tensor) * as_array(getattr(operands, f"{name}_scale"))[..., None]
        if case.kv_cache == "paged" and name in ("k", "v"):
            keys = as_array(tensor).reshape(-1, *tensor.shape[2:])[_slots(case)]
            found[name] = keys.reshape(case.batch, case.seqlen_kv, *keys.shape[1:]).swapaxes(1, 2)
        else:
            found[name] = as_array(canonical(case, layout, tensor)).copy()
    return found


def as_array(tensor: Any) -> NDArray[np.floating]:
    """Return a tensor's values on the host, in float64 if that is its dtype, else in float32."""
    if hasattr(tensor, "detach"):
        import torch

        wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        array: NDArray[np.floating] = tensor.detach().to(device="cpu", dtype=wide).numpy()
        return array
    array = np.asarray(tensor)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def canonical(case: Case, layout: str, tensor: Any) -> Any:
    """Return ``out`` or a gradient as a view (batch, heads, seqlen, dim); with projections it is unchanged."""
    if case.operator == "multi_head_attention" or layout == "bhsd":
        return tensor
    if layout == "packed":
        tensor = tensor.reshape(case.batch, -1, *tensor.shape[1:])
    return _swap(tensor, 1, 2)
