"""Masks, lists of blocks and biases that are tensors: out of a file, or drawn from a seed, so that they need no file.

A drawn mask differs between elements of the batch. Each row alternates between visible and hidden at its own rate, from
every second key to every 128th on average, and one row in 32 sees nothing. A drawn bias also differs between heads; it
is a multiple of 1/16 between -8 and 8, which every dtype represents exactly, and -inf for one key in 32.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.cases.tensors.errors import TensorError, unreadable
from attnbench.cases.tensors.file import FLOATS, UNREADABLE, array_of, entry_of
from attnbench.cases.tensors.names import name_in
from attnbench.cases.tensors.source import FILE_INPUTS, drawn_shape, seed_of, stored, without_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Shape = tuple[int, ...]

_RATES = np.array([1 / 64, 1 / 16, 1 / 4, 1.0], np.float32) / 2
_MISREAD: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "inverted:": np.logical_not,
    "negated:": lambda tensor: np.where(np.isneginf(tensor), tensor, -tensor),
    "transposed:": lambda tensor: tensor.swapaxes(-1, -2),
    "first:": lambda tensor: tensor[:1],
    "first-head:": lambda tensor: tensor[:, :1],
}
"""Ways to misread a tensor. A text with such a prefix never comes from a user."""


def misread(how: str, text: str) -> str:
    """Return the text of a tensor as misread by one of ``_MISREAD``."""
    assert f"{how}:" in _MISREAD
    return f"{how}:{text}"


@functools.lru_cache(maxsize=2)
def mask_tensor(text: str, batch: int, seqlen_q: int, seqlen_kv: int) -> NDArray[np.bool_]:
    """Return a mask, True where a query sees a key: four axes, broadcastable to (batch, 1, seqlen_q, seqlen_kv).

    Raises:
        TensorError: if its file does not hold it.
    """
    found = _tensor(text, "mask", (batch, 1, seqlen_q, seqlen_kv))
    if found.dtype == np.uint8 and not np.isin(found, (0, 1)).all():
        raise TensorError(f"mask_file = {without_digest(text)!r}: mask holds other numbers than 0 and 1")
    mask = found.astype(np.bool_)
    mask.flags.writeable = False
    return mask


@functools.lru_cache(maxsize=2)
def bias_tensor(text: str, batch: int, heads_q: int, seqlen_q: int, seqlen_kv: int) -> NDArray[np.floating]:
    """Return a bias, -inf where a key is hidden: four axes, broadcastable to (batch, heads_q, seqlen_q, seqlen_kv).

    Raises:
        TensorError: if its file does not hold it, or it holds NaN or +inf.
    """
    found = _tensor(text, "bias", (batch, heads_q, seqlen_q, seqlen_kv))
    bias: NDArray[np.floating] = found.astype(np.float64 if found.dtype == np.float64 else np.float32)
    if not bool((bias < np.inf).all()):
        raise TensorError(f"bias_file = {without_digest(text)!r}: bias holds NaN or +inf; it may be finite, or -inf")
    bias.flags.writeable = False
    return bias


@functools.lru_cache(maxsize=2)
def blocks_tensor(text: str, rows: int, keys: int) -> NDArray[np.bool_]:
    """The blocks of keys that each block of queries sees, (blocks of queries, blocks of keys), out of a file.

    Raises:
        TensorError: where the file does not hold them.
    """
    try:
        path = stored(text).checked()
        found = array_of(path, name_in(path, "blocks"))
    except UNREADABLE as error:
        raise TensorError(unreadable(FILE_INPUTS + text, "mask_blocks", "blocks", error)) from error
    said = f"mask_blocks = {FILE_INPUTS + without_digest(text)!r}: blocks"
    if found.dtype not in (np.bool_, np.uint8) or not np.isin(found, (0, 1)).all():
        raise TensorError(f"{said} are of the dtype {found.dtype}: they must be booleans, or bytes 0 and 1")
    if found.shape != (rows, keys):
        raise TensorError(f"{said} have shape {found.shape}; (blocks of queries, blocks of keys) is {(rows, keys)}")
    return found.astype(np.bool_)


def blocks_problem(text: str, rows: int, keys: int) -> str | None:
    """Why a file does not hold the lists of so many blocks, in a sentence, or ``None``."""
    try:
        blocks_tensor.__wrapped__(text, rows, keys)
    except TensorError as error:
        return str(error)
    return None


def mask_problem(text: str, batch: int, seqlen_q: int, seqlen_kv: int) -> str | None:
    """Return a sentence if a file does not hold a valid mask of these sizes, else ``None``; its values are read."""
    return _problem_of_values(text, lambda: mask_tensor.__wrapped__(text, batch, seqlen_q, seqlen_kv))


def bias_problem(text: str, batch: int, heads_q: int, seqlen_q: int, seqlen_kv: int) -> str | None:
    """Return a sentence if a file does not hold a valid bias of these sizes, else ``None``; its values are read."""
    return _problem_of_values(text, lambda: bias_tensor.__wrapped__(text, batch, heads_q, seqlen_q, seqlen_kv))


def _problem_of_values(text: str, read: Callable[[], object]) -> str | None:
    if seed_of(text) is None:
        try:
            read()
        except TensorError as error:
            return str(error)
    return None


def _problem_of_header(text: str, name: str, wanted: Shape) -> str | None:
    """Return a sentence if a file holds no mask or bias that broadcasts to ``wanted``, else ``None``, by its header."""
    try:
        path = stored(text).path
        found = entry_of(path, name_in(path, name))
    except UNREADABLE as error:
        return unreadable(text, f"{name}_file", name, error)
    problem = _problem_of_type(name, found.dtype) or _problem_of_shape(name, found.shape, wanted)
    return f"{name}_file = {without_digest(text)!r}: {name} {problem}" if problem else None


def _problem_of_type(name: str, dtype: str) -> str | None:
    if name == "mask" and dtype not in ("bool", "uint8"):
        return f"is of the dtype {dtype}, not bool: floats that are added to scores are score_mod = 'bias'"
    if name == "bias" and dtype not in FLOATS:
        return f"is of the dtype {dtype}, not one of {', '.join(FLOATS)}: truth values are mask = 'tensor'"
    return None


def _problem_of_shape(name: str, found: Shape, wanted: Shape) -> str | None:
    if len(found) <= 4 and all(a in (1, b) for a, b in zip(found[::-1], wanted[::-1], strict=False)):
        return None
    if name == "mask" and len(found) == 4 and found[1] > 1:
        return f"has shape {found}: heads share a mask; one for each head is a bias of 0 and -inf, score_mod = 'bias'"
    return f"has shape {found}, which does not broadcast to {wanted}"


def _tensor(text: str, name: str, wanted: Shape) -> NDArray[np.generic]:
    for how, change in _MISREAD.items():
        if text.startswith(how):
            return change(_tensor(text.removeprefix(how), name, wanted))
    seed = seed_of(text)
    if seed is not None:
        shape = drawn_shape(text, wanted)
        return _drawn_mask(seed, shape) if name == "mask" else _drawn_bias(seed, shape)
    if problem := _problem_of_header(text, name, wanted):
        raise TensorError(problem)
    try:
        path = stored(text).checked()
        found = array_of(path, name_in(path, name))
    except UNREADABLE as error:
        raise TensorError(unreadable(text, f"{name}_file", name, error)) from error
    return found.reshape((1,) * (4 - found.ndim) + found.shape)


def _drawn_mask(seed: int, shape: Shape) -> NDArray[np.generic]:
    batch, _, rows, keys = shape
    mask = np.empty(shape, np.bool_)
    for b in range(batch):
        generator = np.random.Generator(np.random.SFC64([seed, 0, b]))
        rates, whole = generator.choice(_RATES, (rows, 1)), generator.random((rows, 1)) < 1 / 32
        changes = generator.random((rows, keys), np.float32) < rates
        mask[b, 0] = (np.cumsum(changes, axis=1) + generator.integers(2, size=(rows, 1))) % 2 == 1
        mask[b, 0] &= ~whole
    return mask


def _drawn_bias(seed: int, shape: Shape) -> NDArray[np.generic]:
    bias = np.empty(shape, np.float32)
    for b in range(shape[0]):
        for head in range(shape[1]):
            generator = np.random.Generator(np.random.SFC64([seed, 1, b, head]))
            drawn = generator.standard_normal(shape[2:], np.float32) * np.float32(2)
            drawn = np.clip(np.round(drawn * 16) / 16, -8, 8)
            drawn[generator.random(shape[2:], np.float32) < 1 / 32] = -np.inf
            bias[b, head] = drawn
    return bias
