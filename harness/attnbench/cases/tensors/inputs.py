"""Reads queries, keys, values and upstream gradients from a file."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from attnbench.cases.tensors.errors import TensorError, unreadable
from attnbench.cases.tensors.file import FLOATS, UNREADABLE, array_of, entry_of
from attnbench.cases.tensors.names import name_in
from attnbench.cases.tensors.source import stored, without_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shape = tuple[int, ...]

INPUTS = ("q", "k", "v", "dout")
"""The tensors that a file may hold."""


def input_problem(text: str, layout: str | None, name: str, shape: Shape) -> str | None:
    """Return a sentence if a file does not hold a tensor of this shape, else ``None``; the values are not read.

    Args:
        text: the file, as :func:`attnbench.cases.tensors.source.stored` reads it.
        layout: ``bshd`` if tokens come before heads in the file.
        name: one of :data:`INPUTS`.
        shape: the tensor's shape in the case, heads before tokens.
    """
    try:
        path = stored(text).path
        found = entry_of(path, name_in(path, name))
    except UNREADABLE as error:
        return unreadable(f"file:{text}", "inputs", name, error)
    about = f"inputs = 'file:{without_digest(text)}'"
    if found.dtype not in FLOATS:
        return f"{about}: {name} is of the dtype {found.dtype}, not one of {', '.join(FLOATS)}"
    wanted = in_file(shape, layout)
    if found.shape != wanted:
        order = " (batch, seqlen, heads, head_dim)" if layout == "bshd" else ""
        return f"{about}: {name} has shape {found.shape}, the case says {wanted}{order}"
    return None


def input_tensor(text: str, layout: str | None, name: str, shape: Shape) -> NDArray[np.generic]:
    """Read a tensor of a file and return it with heads before tokens.

    Raises:
        TensorError: if the file does not hold it, or has changed since the run was planned.
    """
    problem = input_problem(text, layout, name, shape)
    if problem:
        raise TensorError(problem)
    try:
        path = stored(text).checked()
        found = array_of(path, name_in(path, name))
    except UNREADABLE as error:
        raise TensorError(unreadable(f"file:{text}", "inputs", name, error)) from error
    return found.swapaxes(1, 2) if layout == "bshd" and found.ndim == 4 else found


@functools.lru_cache(maxsize=4)
def remembered_tensor(text: str, layout: str | None, name: str, shape: Shape) -> NDArray[np.generic]:
    """Return what :func:`input_tensor` does, cached for the tensor's other heads; the array must not be written to."""
    return input_tensor(text, layout, name, shape)


def in_file(shape: Shape, layout: str | None) -> Shape:
    """Return the shape of a tensor in its file; only tensors of four axes differ."""
    if layout != "bshd" or len(shape) != 4:
        return shape
    batch, heads, seqlen, dim = shape
    return (batch, seqlen, heads, dim)
