"""Writes tensors into files named by their content, so that equal tensors are stored once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attnbench.store.capture import TENSORS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_NAME_DIGITS = 16


def save_tensors(folder: Path, arrays: Mapping[str, Tensor]) -> str:
    """Write arrays into one safetensors file in the subfolder ``tensors``, unless it exists.

    Returns:
        The file's path relative to the folder.

    Raises:
        OSError: if it cannot be written.
    """
    from safetensors.torch import save

    data = save({name: array.detach().contiguous().cpu() for name, array in arrays.items()})
    path = folder / TENSORS / f"{hashlib.sha256(data).hexdigest()[:_NAME_DIGITS]}.safetensors"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return f"{TENSORS}/{path.name}"
