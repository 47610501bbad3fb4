"""Reads a user's tensors from ``.npz`` or ``.safetensors``. A header is checked against the size of the data."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import stat
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from attnbench.untrusted.json_text import parse_json
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    Shape = tuple[int, ...]

SAFETENSORS = ".safetensors"
UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile)
"""The exceptions that functions here raise if there is no such file or array; each message is a sentence."""

FLOATS = ("float64", "float32", "float16", "bfloat16")
_LARGEST_HEADER = 100_000_000  # the format's limit
_TYPES: dict[str, type[np.generic]] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "BOOL": np.bool_, "U8": np.uint8,
}  # fmt: skip
_IN_ARCHIVES = (np.float64, np.float32, np.float16, np.bool_, np.uint8)


@dataclasses.dataclass(frozen=True)
class Entry:
    """The dtype and shape of an array in a file."""

    dtype: str
    """``float64``, ``float32``, ``float16``, ``bfloat16``, ``bool`` or ``uint8``."""
    shape: Shape


def array_of(path: Path, name: str) -> NDArray[np.generic]:
    """Read one array of a file by its name in the file; bfloat16 is returned as float32.

    Raises:
        OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile: if it cannot be read.
    """
    with _opened(path) as (file, is_archive):
        if not is_archive:
            return _from_safetensors(file, name)
        with _npz_member(file, name) as (member, shape, dtype, in_columns):
            data = bytearray(member.read(math.prod(shape) * dtype.itemsize))  # bytearray, for a writable array
            return _truth(np.frombuffer(data, dtype).reshape(shape, order="F" if in_columns else "C"))


def entry_of(path: Path, name: str) -> Entry:
    """Return an array's dtype and shape without reading its values; raises like :func:`array_of`."""
    with _opened(path) as (file, is_archive):
        if not is_archive:
            said, shape, dtype, _ = _safetensors_entry(file, name)
            return Entry("bfloat16" if said == "BF16" else dtype.name, shape)
        with _npz_member(file, name) as (_, shape, dtype, _):
            return Entry(dtype.name, shape)


def names_of(path: Path) -> list[str]:
    """Return the names of a file's arrays in the file's order; raises like :func:`array_of`."""
    with _opened(path) as (file, is_archive):
        if not is_archive:
            return [name for name in _safetensors_header(file)[0] if name != "__metadata__"]
        with _archive(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a file and yield it with whether it is an archive; other exceptions of libraries within become ValueErrors.

    Raises:
        OSError, ValueError: if it cannot be opened.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file")  # several processes read it, each from its beginning
    with path.open("rb") as file:
        try:
            yield file, path.suffix != SAFETENSORS
        except (RuntimeError, MemoryError, OverflowError, SyntaxError, zlib.error) as error:
            raise ValueError(f"it is damaged: {type(error).__name__}: {error}") from error


def _archive(file: IO[bytes]) -> zipfile.ZipFile:
    if file.read(6) == b"\x93NUMPY":
        raise TypeError("it holds a single array without a name; numpy.savez writes several")
    return zipfile.ZipFile(file)


@contextlib.contextmanager
def _npz_member(file: IO[bytes], name: str) -> Iterator[tuple[IO[bytes], Shape, np.dtype[Any], bool]]:
    """Yield an archive member positioned at its values, with shape, dtype, and whether it is in Fortran order."""
    with _archive(file) as archive:
        try:
            about = archive.getinfo(f"{name}.npy")
        except KeyError:
            known = ", ".join(other.removesuffix(".npy") for other in archive.namelist())
            raise KeyError(f"{name} is not among {shown(known)}") from None
        with archive.open(about) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, in_columns, dtype = read(member)
            if dtype.newbyteorder("=") not in _IN_ARCHIVES:
                known = ", ".join(np.dtype(one).name for one in _IN_ARCHIVES)
                raise TypeError(f"{name} is of the dtype {shown(str(dtype))}, not one of {known}")
            _require_sizes(name, shape, dtype, about.file_size - member.tell())
            yield member, shape, dtype, in_columns


def _require_sizes(name: str, shape: object, dtype: np.dtype[Any], size: int) -> None:
    """Raise if a shape is invalid or does not match the number of bytes."""
    if not isinstance(shape, tuple | list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{name} has the shape {shown(shape)}, which is not a shape")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name} has other bytes than its shape says")


def _from_safetensors(file: IO[bytes], name: str) -> NDArray[np.generic]:
    """Read an array. A file is 8 bytes of header length, a JSON header, and row-major, little-endian values."""
    said, shape, dtype, begin = _safetensors_entry(file, name)
    file.seek(begin)
    array = np.frombuffer(bytearray(file.read(math.prod(shape) * dtype.itemsize)), dtype).reshape(shape)
    if said == "BF16":  # the upper half of a float32
        widened: NDArray[np.generic] = (array.astype(np.uint32) << 16).view(np.float32)
        return widened
    return _truth(array)


def _truth(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the array; in boolean arrays, every byte that is not 0 becomes True, as a file may hold any bytes."""
    return array if array.dtype != np.bool_ else array.view(np.uint8) != 0


def _safetensors_header(file: IO[bytes]) -> tuple[dict[str, Any], int, int]:
    """Return the header, its length, and the length of the file."""
    whole = os.fstat(file.fileno()).st_size
    size = int.from_bytes(file.read(8), "little")
    if not 2 <= size <= min(_LARGEST_HEADER, whole - 8):
        raise ValueError("its header has no possible length: it is no safetensors file")
    header = parse_json(file.read(size).decode())
    if not isinstance(header, dict):
        raise TypeError("its header is no table of tensors")
    return header, size, whole


def _safetensors_entry(file: IO[bytes], name: str) -> tuple[str, Shape, np.dtype[Any], int]:
    """Return a tensor's type in the header, its shape, its NumPy dtype, and the offset of its bytes."""
    header, size, whole = _safetensors_header(file)
    if name not in header:
        raise KeyError(f"{name} is not among {', '.join(n for n in header if n != '__metadata__')}")
    entry = header[name]
    said = entry.get("dtype") if isinstance(entry, dict) else None
    if not isinstance(said, str) or said not in _TYPES:
        raise TypeError(f"{name} is of the dtype {shown(said)}, not one of {', '.join(_TYPES)}")
    offsets, shape = entry.get("data_offsets"), entry.get("shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int for n in offsets):
        raise ValueError(f"{name} lies at {shown(offsets)}, which is no place")
    begin, end = offsets
    if not 0 <= begin <= end <= whole - 8 - size:
        raise ValueError(f"{name} lies at {shown(offsets)}, beyond the {whole - 8 - size} bytes of values")
    dtype = np.dtype(_TYPES[said]).newbyteorder("<")
    _require_sizes(name, shape, dtype, end - begin)
    return said, tuple(shape), dtype, 8 + size + begin
