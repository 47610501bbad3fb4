"""Masks that show several runs of keys to a query, as lists of the blocks that a tile has to visit.

A list depends on the tile sizes, so it is made when these are chosen. Each entry names the block and a pattern, which
says what each query of the tile sees of it; most blocks of a mask are alike, so there are few patterns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attnbench import row_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attnbench import Case

LISTED_KINDS = frozenset(("tree", "block_sparse"))
"""Kinds of masks that show several runs."""


class BlockLists(NamedTuple):
    """Lists of a mask for tiles of (block_m, block_n); numbers are int32.

    A list is (tiles + 1), where the entries of each tile begin and the last ones end, and (entries, 2): the first row
    of a block along the other axis, and its pattern. The tiles of a batch element follow those of the one before.
    """

    of_queries: tuple[NDArray[np.int32], NDArray[np.int32]]
    """The blocks of keys that each tile of queries visits."""
    of_keys: tuple[NDArray[np.int32], NDArray[np.int32]]
    """The blocks of queries that each tile of keys is visited by."""
    patterns: NDArray[np.uint8]
    """(patterns, block_m, block_n), 1 where a query sees a key."""


def block_lists(case: Case, block_m: int, block_n: int) -> BlockLists:
    """The lists of a case's mask."""
    tiles, blocks = -(-case.seqlen_q // block_m), -(-case.seqlen_kv // block_n)
    patterns: dict[bytes, int] = {}
    entries: list[tuple[int, int, int, int]] = []  # batch element, tile of queries, block of keys, pattern
    for b in range(case.batch):
        runs = row_runs(case, b)
        for tile in range(tiles):
            seen = _written_out(runs[tile * block_m : (tile + 1) * block_m], block_m, blocks * block_n)
            cut = seen.reshape(block_m, blocks, block_n).swapaxes(0, 1)
            for block in np.flatnonzero(cut.any((1, 2))).tolist():
                number = patterns.setdefault(cut[block].tobytes(), len(patterns))
                entries.append((b, tile, block, number))
    found = np.array(entries, np.int64).reshape(-1, 4)
    element, row, column, pattern = found.T
    shapes = np.frombuffer(b"".join(patterns) or bytes(block_m * block_n), np.uint8)
    return BlockLists(
        of_queries=_grouped(element * tiles + row, case.batch * tiles, column * block_n, pattern),
        of_keys=_grouped(element * blocks + column, case.batch * blocks, row * block_m, pattern),
        patterns=shapes.reshape(-1, block_m, block_n).copy(),
    )


def _written_out(runs: NDArray[np.int64], rows: int, keys: int) -> NDArray[np.bool_]:
    """Runs (queries, runs, 2) as (rows, keys); rows that are no queries see nothing."""
    steps = np.zeros((rows, keys + 1), np.int64)
    queries = np.arange(len(runs))[:, None]
    np.add.at(steps, (queries, runs[..., 0]), 1)
    np.add.at(steps, (queries, runs[..., 1]), -1)
    return np.cumsum(steps[:, :-1], axis=1) > 0


def _grouped(owner: NDArray[Any], owners: int, first: NDArray[Any], pattern: NDArray[Any]) -> tuple[Any, Any]:
    order = np.lexsort((first, owner))
    starts = np.searchsorted(owner[order], np.arange(owners + 1))
    return starts.astype(np.int32), np.stack([first, pattern], 1)[order].astype(np.int32)
