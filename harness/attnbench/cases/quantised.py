"""K and V stored in eight bits: each row of a head (one token) has its own scale, and there is no zero point.

``stored = round(value / scale)``, from -127 to 127 in int8 and from -448 to 448 in float8_e4m3fn;
``value = stored * scale``. The scale is the row's largest magnitude over that bound, rounded up to 16 significant bits,
so that ``stored * scale`` is exact in float32, and quantising dequantised values again gives the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

LARGEST_STORED: dict[str, int] = {"int8": 127, "float8_e4m3fn": 448}
_LEAST_SCALE = np.float32(2.0**-100)
"""The smallest scale, also that of a row of zeros. Products with it are normal float32 numbers."""
_LOW_BITS = np.uint32(0xFF)
"""The bits of a float32 below its 16 highest significant ones (24 in all)."""


def quantised(values: Floats, kv_dtype: str) -> tuple[Floats, NDArray[np.float32]]:
    """Return the stored numbers, in the values' floating-point dtype, and the scales.

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
    """Quantise values (..., seqlen, dim) and dequantise them again, in the same dtype."""
    stored, scale = quantised(values, kv_dtype)
    stored *= scale[..., None]
    return stored


def _to_float8(values: Floats) -> Floats:
    """Round to the nearest float8_e4m3fn, ties to even: 3 bits of mantissa, smallest subnormal 2^-9."""
    exponent = np.maximum(np.frexp(values)[1], -5) - 4
    rounded: Floats = np.ldexp(np.rint(np.ldexp(values, -exponent)), exponent)
    return rounded
