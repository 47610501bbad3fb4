"""Paths of files, made absolute and with a digest of the content, so that they stay valid elsewhere and later."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from attnbench.cases.choices import FILE_FIELDS
from attnbench.cases.tensors.source import FILE_INPUTS, RANDOM, StoredTensors, digest_of, stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PREFIXED = ("inputs", "mask_blocks")
"""Fields that may have other texts than a path."""


def file_in(name: str, value: object) -> str | None:
    """Return the file name in a field's value, without ``file:``, or ``None`` if it names no file."""
    if name not in FILE_FIELDS or not isinstance(value, str):
        return None
    if name in _PREFIXED:
        return value.removeprefix(FILE_INPUTS) if value.startswith(FILE_INPUTS) else None
    return None if value.startswith(RANDOM) else value


def with_file(name: str, text: str) -> str:
    """Return the field's value that names a file."""
    return FILE_INPUTS + text if name in _PREFIXED else text


def anchored(name: str, value: object, folder: Path) -> object:
    """Resolve relative paths in a field's value, or in a list of values, from a folder.

    A readable file gets its digest, so that a changed content is noticed when the plan is used later; the plan reports
    unreadable ones.
    """
    if isinstance(value, list):
        return [anchored(name, item, folder) if isinstance(item, str) else item for item in value]
    text = file_in(name, value)
    if not text:
        return value
    named = stored(text)
    path = folder.absolute() / named.path
    digest = named.digest
    if digest is None:
        with contextlib.suppress(OSError, ValueError):
            digest = digest_of(path)
    return with_file(name, StoredTensors(path, digest).text)


def anchored_table(table: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Resolve paths like :func:`anchored`, for a table of fields."""
    return {name: anchored(name, value, folder) for name, value in table.items()}
