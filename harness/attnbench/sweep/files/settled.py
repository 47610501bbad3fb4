"""Fields of a case that its files determine, so that the shape of a stored tensor need not be typed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from attnbench.cases.choices import CHOICES, FILE_FIELDS
from attnbench.cases.score_mods import names_in
from attnbench.cases.tensors.errors import TensorError
from attnbench.cases.tensors.file import UNREADABLE, Entry, entry_of
from attnbench.cases.tensors.inputs import in_file
from attnbench.cases.tensors.names import name_in
from attnbench.cases.tensors.source import ChangedError, StoredTensors, digest_of, stored, without_digest
from attnbench.sweep.files.paths import file_in, with_file
from attnbench.sweep.files.torch_file import SUFFIXES, converted

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = tuple[int, ...]

_QKV = ("q", "k", "v")
_SIZES = ("batch", "heads_q", "seqlen_q", "seqlen_kv")
"""Axes of a mask and of a bias."""


def with_files(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a case, completed by those that its files determine and that are not set.

    ``inputs`` determine sizes, layout and dtype; a mask or a bias determines the sizes along which it varies. Fields
    that contradict the files are kept: planning reports that such a case does not fit.

    Raises:
        TensorError: if a file cannot be read, has changed since it was planned with, lacks a tensor, or does not
            determine its layout.
    """
    found = dict(fields)
    for name in FILE_FIELDS:
        text = file_in(name, found.get(name))
        if text is not None and _is_used(name, found):
            found[name] = with_file(name, _known(name, text).text)
    if (text := file_in("inputs", found.get("inputs"))) is not None and found.get("operator") in (None, "attention"):
        found = {**_of_inputs(text, found), **found}
    for name, tensor in (("mask_file", "mask"), ("bias_file", "bias")):
        if (text := file_in(name, found.get(name))) is not None and _is_used(name, found):
            shape = _entries(text, name, (tensor,))[tensor].shape[-4:]
            sizes = dict(zip(reversed(_SIZES), reversed(shape), strict=False))
            found = {
                **{size: n for size, n in sizes.items() if n > 1 and (size, tensor) != ("heads_q", "mask")},
                **found,
            }
    return found


def _is_used(name: str, fields: Mapping[str, object]) -> bool:
    if name == "mask_file":
        return "tensor" in str(fields.get("mask"))
    if name == "mask_blocks":
        return "block_sparse" in str(fields.get("mask"))
    return name == "inputs" or "bias" in names_in(str(fields.get("score_mod")))


def _known(name: str, text: str) -> StoredTensors:
    """Return the file to read, with its digest: the user's, or the one converted from it."""
    named = stored(text)
    try:
        path = named.checked()
        if path.suffix in SUFFIXES:
            path = converted(path)
            return StoredTensors(path, digest_of(path))
        return StoredTensors(path, named.digest or digest_of(path))
    except ChangedError as error:
        raise TensorError(f"{_written(name, text)}: {error}") from error
    except UNREADABLE as error:
        said = getattr(error, "strerror", None) or error
        raise TensorError(f"{_written(name, text)} cannot be read: {said}") from error


def _written(name: str, text: str) -> str:
    return f"{name} = {without_digest(with_file(name, text))!r}"


@functools.lru_cache(maxsize=64)
def _entries(text: str, field: str, names: tuple[str, ...]) -> dict[str, Entry]:
    """Return the arrays with these names.

    Raises:
        TensorError: if some cannot be read; the message says which and why.
    """
    path = stored(text).path
    found, problems = {}, []
    for name in names:
        try:
            found[name] = entry_of(path, name_in(path, name))
        except UNREADABLE as error:
            problems.append(str(error.args[0] if isinstance(error, KeyError) else error))
    if problems:
        raise TensorError(f"{_written(field, text)}: {'; '.join(dict.fromkeys(problems))}")
    return found


def _of_inputs(text: str, fields: Mapping[str, object]) -> dict[str, object]:
    entries = _entries(text, "inputs", _QKV)
    shapes = {name: entries[name].shape for name in _QKV}
    said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    about = _written("inputs", text)
    if any(len(shape) != 4 for shape in shapes.values()):
        raise TensorError(f"{about}: q, k and v must have the axes (batch, heads, seqlen, head_dim), not {said}")
    asked = fields.get("inputs_layout")
    possible = {
        layout: sizes
        for layout in CHOICES["inputs_layout"]
        if asked in (None, layout) and (sizes := _sizes(layout, *shapes.values())) is not None
    }
    if not possible:
        raise TensorError(f"{about}: the shapes do not fit each other: {said}")
    agreeing = {
        layout: sizes
        for layout, sizes in possible.items()
        if all(fields.get(name) in (None, size) for name, size in sizes.items())
    }
    layout = _only(agreeing or possible)
    if layout is None:
        raise TensorError(
            f"{about}: {said} may be (batch, heads, seqlen, head_dim) or (batch, seqlen, heads, head_dim): write "
            "inputs_layout = 'bhsd' or 'bshd'"
        )
    return {"inputs_layout": layout, "dtype": entries["q"].dtype, **possible[layout]}


def _sizes(layout: str, q: Shape, k: Shape, v: Shape) -> dict[str, int] | None:
    """Return the sizes that the shapes mean in a layout, or ``None`` if they do not fit together."""
    q, k, v = (in_file(shape, layout) for shape in (q, k, v))
    if k[:3] != v[:3] or q[0] != k[0] or q[3] != k[3] or not all((*q, *k, *v)) or q[1] % k[1]:
        return None
    return {
        "batch": q[0], "heads_q": q[1], "heads_kv": k[1], "seqlen_q": q[2], "seqlen_kv": k[2], "head_dim": q[3],
        "head_dim_v": v[3],
    }  # fmt: skip


def _only(layouts: Mapping[str, Mapping[str, int]]) -> str | None:
    """Return the only possible layout; of two, the documented one, unless it has more heads than tokens."""
    first, *others = layouts
    sizes = layouts[first]
    if not others or (sizes["heads_q"] <= sizes["seqlen_q"] and sizes["heads_kv"] <= sizes["seqlen_kv"]):
        return first
    return None
