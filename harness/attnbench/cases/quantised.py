"""K and V stored in eight bits: each row of a head (one token) has a scale of its own, and no zero point.

``stored = round(value / scale)``, in which int8 reaches from -127 to 127 and float8_e4m3fn from -448 to 448;
``value = stored * scale``. The scale is the row's largest magnitude over that bound, rounded up to 16 significant bits:
then ``stored * scale`` is a float32 exactly, and what was dequantised is quantised to the same numbers again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

LARGEST_STORED: dict[str, int] = {"int8": 127, "float8_e4m3fn": 448}
_LEAST_SCALE = np.float32(2.0**-100)
"""Also that of a row of zeros. The products with it are normal float32 numbers."""
_LOW_BITS = np.uint32(0xFF)
"""The bits of a float32 below its 16 highest significant ones (24 in all)."""


def quantised(values: Floats, kv_dtype: str) -> tuple[Floats, NDArray[np.float32]]:
    """The stored numbers, as floating point of the values' dtype, and the scales.

    Args:
        values: (..., seqlen, dim), finite.
        kv_dtype: ``int8`` or ``float8_e4m3fn``.

    Returns:
        (..., seqlen, dim) and (..., seqlen).
    """
    largest = LARGEST_STORED[kv_dtype]
    least = np.maximum(np.abs(values).max(-1) / largest, _LEAST_SCALE).astype(np.float32)
    scale = ((least.view(np.uint32) + _LOW_BITS) & ~_LOW_BITS).view(np.float32)
    stored = values / scale[..., None]
    if kv_dtype == "int8":
        np.rint(stored, out=stored)
    np.clip(stored, -largest, largest, out=stored)
    return (_to_float8(stored) if kv_dtype == "float8_e4m3fn" else stored), scale


def dequantised(values: Floats, kv_dtype: str) -> Floats:
    """The values that are left of (..., seqlen, dim) once they are stored; of the same dtype."""
    stored, scale = quantised(values, kv_dtype)
    stored *= scale[..., None]
    return stored


def _to_float8(values: Floats) -> Floats:
    """The nearest float8_e4m3fn, ties to even: three bits behind the point, and none smaller than 2^-9."""
    exponent = np.maximum(np.frexp(values)[1], -5) - 4
    rounded: Floats = np.ldexp(np.rint(np.ldexp(values, -exponent)), exponent)
    return rounded
