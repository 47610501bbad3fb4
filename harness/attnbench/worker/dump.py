"""Outputs of a call: compared bit by bit, measured, and partly sent to the oracle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

# Bound before any plug-in is imported, so that a plug-in that replaces numpy's functions changes nothing here.
from numpy import array_equal, ascontiguousarray

from attnbench.registry.operands import Tensor
from attnbench.worker.tensors import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.cases.case import Case

Outputs = dict[str, Tensor]
"""The tensors of a call's outputs by name."""

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def canonical_output(case: Case, layout: str, name: str, tensor: Any) -> Any:
    """Return an output as a view with axes (batch, heads, rows, columns); with projections, and for ``lse``, one less.

    Raises:
        TypeError: the output is no tensor.
    """
    if not hasattr(tensor, "shape"):
        raise TypeError(f"the call returned {type(tensor).__name__} as {name}, not a tensor")
    return tensor if name in ("lse", "dbias", "kept") else canonical(case, layout, tensor)


def selected(view: Any, heads: Sequence[tuple[int, int]], rows: Sequence[int] | None, *, has_heads: bool) -> bytes:
    """Return the rows of each head as raw bytes, one head after the other.

    ``view`` has its axes in canonical order, ``heads`` are (batch, head) pairs, and ``None`` selects all rows.
    """
    planes = (view[batch_index][head] if has_heads else view[batch_index] for batch_index, head in heads)
    # jax does not accept a list of rows
    chosen = (plane if rows is None else plane[np.array(rows)] for plane in planes)
    return b"".join(_bits(plane).tobytes() for plane in chosen)


def _bits(tensor: Any) -> np.ndarray[Any, Any]:
    """Return a tensor's memory as unsigned integers on the host, since NumPy has no bfloat16 and float8."""
    if isinstance(tensor, np.ndarray):
        contiguous = ascontiguousarray(tensor)
        return contiguous.view(_BITS[contiguous.itemsize])
    if hasattr(tensor, "detach"):
        import torch

        host = tensor.detach().cpu().contiguous()
        integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[host.element_size()]
        array: np.ndarray[Any, Any] = host.view(integers).numpy()
        return array.view(_BITS[array.itemsize])
    host = np.asarray(tensor)  # jax
    return host.view(_BITS[host.itemsize])


def equal_bits(one: Outputs, other: Outputs) -> bool:
    """Whether two calls returned the same bits."""
    return one.keys() == other.keys() and all(
        hasattr(one[name], "shape")
        and tuple(one[name].shape) == tuple(other[name].shape)
        and array_equal(_bits(one[name]), _bits(other[name]))
        for name in one
    )


def copies(outputs: Outputs) -> Outputs:
    """Return copies of the outputs."""
    return {name: tensor.clone() if hasattr(tensor, "clone") else np.array(tensor) for name, tensor in outputs.items()}


def spread(one: Outputs, other: Outputs) -> float:
    """Return the RMS of the difference of two calls' outputs over the RMS of the first, for the worst tensor.

    The result is infinite if an element is finite in only one of them.
    """
    largest = 0.0
    for name, first in one.items():
        a, b = _numbers(first), _numbers(other[name])
        both = np.isfinite(a) & np.isfinite(b)
        if bool((np.isfinite(a) != np.isfinite(b)).any()):
            return math.inf
        difference, size = np.linalg.norm(np.where(both, a - b, 0.0)), np.linalg.norm(np.where(both, a, 0.0))
        largest = max(largest, float(difference / size) if size else float(difference > 0))
    return largest


def _numbers(tensor: Any) -> np.ndarray[Any, Any]:
    if hasattr(tensor, "detach"):
        array: np.ndarray[Any, Any] = tensor.detach().double().cpu().numpy()
        return array
    return np.asarray(tensor, np.float64)


def nbytes(outputs: Outputs) -> int:
    """Return the bytes of all outputs together."""
    return sum(math.prod(t.shape) * _bits(t[:0]).itemsize for t in outputs.values())
