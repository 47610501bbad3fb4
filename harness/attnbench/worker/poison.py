"""Fresh memory that holds NaN, so that an output or a workspace which a kernel leaves unwritten shows.

glibc fills what it hands out where ``M_PERTURB`` is set (mallopt(3)): with the complement of the value's low byte. The
value 256 is therefore on, and its complement is 0xFF, which is NaN in every floating-point type here. Blocks of a
kilobyte or less may come from a thread's own cache, which is not filled.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_M_PERTURB = -6
_ALL_BITS_SET = 0x100
_OFF = 0


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Until the end of the block, fresh memory of this process is full of NaN (where the allocator is glibc's)."""
    libc = ctypes.CDLL(None)
    has_it = hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")
    if has_it:
        libc.mallopt(_M_PERTURB, _ALL_BITS_SET)
    try:
        yield
    finally:
        if has_it:
            libc.mallopt(_M_PERTURB, _OFF)
