"""Tensors of a user's own, out of ``.npz`` or ``.safetensors``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SAFETENSORS = ".safetensors"
_LARGEST_HEADER = 2**26
_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def array_of(path: Path, name: str) -> NDArray[np.generic]:
    """One array of a file, by name.

    Raises:
        OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile: when it cannot be had.
    """
    if path.suffix == SAFETENSORS:
        return _from_safetensors(path, name)
    # The file is opened here: numpy leaves it open where the archive is broken.
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise TypeError("it holds a single array without a name; numpy.savez writes several")
        array: NDArray[np.generic] = arrays[name]
        return array


def _from_safetensors(path: Path, name: str) -> NDArray[np.generic]:
    """The format is a length of 8 bytes, so many bytes of JSON, and the tensors' bytes, row-major, little-endian."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= _LARGEST_HEADER:
            raise ValueError("its header has no possible length: it is no safetensors file")
        header: dict[str, Any] = json.loads(file.read(size))
        if name not in header:
            raise KeyError(f"{name} is not among {', '.join(n for n in header if n != '__metadata__')}")
        said = header[name]
        if said["dtype"] not in _TYPES:
            raise TypeError(f"{name} is of the dtype {said['dtype']}, not one of {', '.join(_TYPES)}")
        dtype = np.dtype(_TYPES[said["dtype"]]).newbyteorder("<")
        begin, end = said["data_offsets"]
        if end - begin != math.prod(said["shape"]) * dtype.itemsize:
            raise ValueError(f"{name} has other bytes than its shape says")
        file.seek(8 + size + begin)
        array = np.frombuffer(file.read(end - begin), dtype).reshape(said["shape"])
    if said["dtype"] == "BF16":  # the upper half of a float32
        widened: NDArray[np.generic] = (array.astype(np.uint32) << 16).view(np.float32)
        return widened
    return array
