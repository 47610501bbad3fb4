"""Attention on several ranks: each process holds some tokens of a sequence that is too long for a single one.

A call is given the rank's share of q, k and v, finds the other ranks in torch's default process group, and returns its
share of the output. Read it in this order:

- ``blocks.py``: blocks of queries and keys with their part of the mask, and the merging of two results for the same
  queries by their LSE;
- ``ring.py``: keys and values go around the ranks, and every rank meets all of them;
- ``ulysses.py``: tokens are exchanged for heads and back, and every rank sees whole sequences of some heads;
- ``usp.py``: both at once, on ranks in rows and columns;
- ``context_parallel.py``: torch's own.
"""

from .context_parallel import context_parallel
from .ring import ring
from .ulysses import ulysses
from .usp import usp

__all__ = ["context_parallel", "ring", "ulysses", "usp"]
