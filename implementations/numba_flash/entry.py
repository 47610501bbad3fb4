"""The three kernels, compiled for a dtype: what the rest of the package looks like from outside.

Arguments of all kernels, where they are not told otherwise:

- ``q``: (batch, heads_q, seqlen_q, head_dim), any strides; so are the other tensors.
- ``k``, ``v``: (batch, heads_kv, seqlen_kv, head_dim or head_dim_v).
- ``out``: to fill, (batch, heads_q, seqlen_q, head_dim_v).
- ``lse``: (batch, heads_q, seqlen_q), natural logarithms, float32 or float64.
- ``low``, ``high``: (batch, seqlen_q), the first key that a row sees and the first beyond; int32, or int64 for float64.
- ``bias``: (heads_q, seqlen_q + seqlen_kv - 1 and a tile to spare), by query index - key index + seqlen_kv - 1; or
  (heads_q, 0).
- ``sinks``: (heads_q,); -inf is none.
- ``scale``: (3,): what Q K^T is multiplied by, which is the case's scale or, before a cap, that over the softcap; 1;
  the case's scale.
- ``softcap``: of the scores; 0 is none.
- ``words``: an empty array of the type in which matrices are multiplied: int32 for pairs of bfloat16.
- ``number``: an empty array of the type in which products are added up, float32 or float64.
- ``threads``: how many to use.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from pathlib import Path

from numba import types

from .backward import backward_for
from .compiling import kept, named
from .decode import QUERIES, decode_for
from .forward import forward_for
from .softmax import TILE
from .target import TARGET

__all__ = ["QUERIES", "TILE", "kernel", "multiplied_in_pairs"]

BITS = {"float64": types.float64, "float32": types.float32, "float16": types.int16, "bfloat16": types.uint16}
"""How a dtype travels: NumPy has no bfloat16, and Numba no float16 on a CPU."""


def multiplied_in_pairs(dtype: str) -> bool:
    """Whether the processor multiplies pairs of the dtype's numbers; otherwise they are made float32 on the way in."""
    return dtype == "bfloat16" and TARGET.bfloat16_dot is not None


@functools.cache
def kernel(name: str, dtype: str) -> Callable[..., None]:
    """``forward``, ``backward`` or ``decode`` for a dtype. Numba keeps what it compiled on disk, for the next process.

    One specialisation serves all strides, sizes, masks and score modifications.

    Raises:
        KeyError: for a dtype that there is no kernel for.
    """
    number = types.float64 if dtype == "float64" else types.float32
    index = types.int64 if dtype == "float64" else types.int32
    words = types.int32 if multiplied_in_pairs(dtype) else number
    tensor, lse = types.Array(BITS[dtype], 4, "A"), types.Array(number, 3, "A")
    bound, vector = types.Array(index, 2, "C"), types.Array(number, 1, "C")
    bias, word = types.Array(number, 2, "C"), types.Array(words, 1, "C")
    rules = (bound, bound, bias, vector, vector, number, word, vector, types.int64)
    # Numba looks at the file of the function that it keeps compiled, and not at those that this one calls. What a
    # function closes over it does look at: a checksum of all files, so that a change in any of them is compiled.
    sources = zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))
    given = [tensor] * 4 if name != "backward" else [tensor] * 5
    written = [lse] if name != "backward" else [lse, *[tensor] * 3]
    source = {"forward": forward_for, "backward": backward_for, "decode": decode_for}[name](sources)
    signature = types.void(*given, *written, *rules)
    # Each dtype has files of its own: Numba numbers those of one name, and two processes that compile different dtypes
    # at the same moment would write the same number.
    function: Callable[..., None] = kept(named(source, f"{name}_of_{dtype}"), signature)
    return function
