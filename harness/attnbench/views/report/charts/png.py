"""Matrices as PNG: the opacity of a field grows with its number, which suits the light and the dark theme."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INK = (79, 126, 232)
_ALARM = (224, 92, 40)


def colour_of(*, alarm: bool) -> tuple[int, int, int]:
    """Return red, green and blue of an opaque field."""
    return _ALARM if alarm else _INK


def png(plane: NDArray[np.floating], *, alarm: bool = False) -> bytes:
    """Return a picture with one pixel for each field; infinity and the largest finite number are opaque.

    Args:
        plane: non-negative numbers, shape (rows, columns).
        alarm: whether to use the colour of errors.
    """
    finite = np.where(np.isfinite(plane), plane, 0.0).astype(np.float64)
    top = float(finite.max(initial=0.0))
    shares = np.sqrt(finite / top) if top > 0 else finite
    opaque = np.where(np.isfinite(plane), shares, 1.0)
    pixels = np.empty((*plane.shape, 4), np.uint8)
    pixels[..., :3] = colour_of(alarm=alarm)
    pixels[..., 3] = np.round(255 * opaque)
    # Each row of a PNG begins with the number of its filter; 0 is no filter.
    rows = np.concatenate([np.zeros((plane.shape[0], 1), np.uint8), pixels.reshape(plane.shape[0], -1)], axis=1)
    size = struct.pack(">IIBBBBB", plane.shape[1], plane.shape[0], 8, 6, 0, 0, 0)
    parts = ((b"IHDR", size), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
