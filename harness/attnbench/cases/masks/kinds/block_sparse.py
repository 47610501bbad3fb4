"""``block_sparse``: each block of queries has a list of blocks of keys, which its queries see completely.

Lists are an input: selecting blocks is not attention's business. They are written out, read from a file, drawn from a
seed, or those of a pattern that models use: neighbouring blocks and the first ones of the sequence (Zaheer et al., "Big
Bird", NeurIPS 2020, section 2; Xiao et al., "Efficient Streaming Language Models with Attention Sinks", ICLR 2024). All
heads and sequences share them.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.masks.kind import Kind, Parameter, around, runs_of
from attnbench.cases.tensors.planes import blocks_tensor
from attnbench.cases.tensors.source import FILE_INPUTS, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from attnbench.cases.case import Case

    Table = NDArray[np.bool_]

LARGEST_TABLE = 2**24
"""The most pairs of blocks that a table may have."""
_FORMS = {
    "random": re.compile(r"random:(\d{1,3}(?:\.\d{1,9})?)%:(\d{1,18})", re.ASCII),
    "local": re.compile(r"local:(\d{1,9}):(\d{1,9})", re.ASCII),
    "list": re.compile(r"list:((?:\d{1,9}(?:\+\d{1,9})*)?(?:/(?:\d{1,9}(?:\+\d{1,9})*)?)*)", re.ASCII),
}
_MISREAD: dict[str, Callable[[Table], Table]] = {
    "next": lambda table: np.roll(table, -1, axis=0),
    "one-beyond": lambda table: np.pad(table, ((0, 0), (1, 0)))[:, :-1],
    "last-dropped": lambda table: table & (np.cumsum(table[:, ::-1], axis=1)[:, ::-1] > 1),
    "transposed": lambda table: table.T,
    "pairs": lambda table: table[np.arange(len(table)) // 2 * 2],
}
"""Ways to misread the lists. A text with such a prefix never comes from a user."""


def mistake_in_blocks(value: object) -> str | None:
    """Why this gives no lists of blocks, as the end of a sentence, or ``None``."""
    known = (
        "is not random:DENSITY%:SEED, local:NEAR:FIRST, file:PATH, nor list:0/0+1/..., a list for each block of queries"
    )
    if isinstance(value, str) and len(value) > len(FILE_INPUTS) and value.startswith(FILE_INPUTS) and "\0" not in value:
        return None
    if not isinstance(value, str) or not any(form.fullmatch(value) for form in _FORMS.values()):
        return known
    drawn = _FORMS["random"].fullmatch(value)
    return "has a density that is not above 0% and up to 100%" if drawn and not 0 < float(drawn[1]) <= 100 else None


class BlockSparse(Kind):
    """A union of square blocks; those at the ends of the sequences may be cut off."""

    name = "block_sparse"
    parameters = (
        Parameter(name="mask_block_size", form="integer", default=64, least=1),
        Parameter(name="mask_blocks", form="text", default="random:10%:0", mistake=mistake_in_blocks),
    )
    on_diagonal = True
    divisible = False

    def runs(self, case: Case, batch_index: int) -> NDArray[np.int64]:
        """Return the listed blocks, neighbouring ones merged into one run."""
        del batch_index
        size = case.mask_block_size or 1
        of_block = np.minimum(runs_of(block_table(case)) * size, case.seqlen_kv)
        return np.repeat(of_block, min(size, case.seqlen_q), axis=0)[: case.seqlen_q]

    def runs_to_count(self, case: Case) -> int:
        """Return an upper bound: each listed block is a run by itself."""
        how, _, rest = (case.mask_blocks or "").partition(":")
        blocks = -(-case.seqlen_kv // (case.mask_block_size or 1))
        density = float(rest.partition("%")[0]) / 100 if how == "random" else 1.0
        return 2 if how == "local" else min((blocks + 1) // 2, round(density * blocks) + 2)

    def pairs(self, case: Case) -> int | None:
        """Sum the areas of the listed blocks."""
        if self.problems(case):
            return None
        rows, keys = (_sizes(length, case.mask_block_size or 1) for length in (case.seqlen_q, case.seqlen_kv))
        return case.batch * int(rows @ block_table(case).astype(np.int64) @ keys)

    def problems(self, case: Case) -> list[str]:
        """Check the size of the table, and that explicit lists match the blocks of queries and name existing blocks."""
        size, text = case.mask_block_size or 1, case.mask_blocks or ""
        rows, keys = -(-case.seqlen_q // size), -(-case.seqlen_kv // size)
        if rows * keys > LARGEST_TABLE:
            return [f"mask_block_size = {size} makes {rows:,} x {keys:,} blocks, more than {LARGEST_TABLE:,} pairs"]
        if not text.startswith("list:"):
            return []
        lists = _lists(text)
        if len(lists) != rows:
            return [f"mask_blocks has {len(lists)} lists; there are {rows} blocks of {size} queries"]
        beyond = [block for one in lists for block in one if block >= keys]
        return [f"mask_blocks: there is no block {beyond[0]} of keys, only {keys} of {size}"] if beyond else []

    def looks_ahead(self, case: Case) -> bool:
        """True: a query sees its listed blocks to their end."""
        del case
        return True

    def query_edges(self, case: Case) -> list[int]:
        """Return the first and the last boundary between blocks, with neighbours."""
        return _boundaries(case.seqlen_q, case.mask_block_size or 1)

    def key_edges(self, case: Case) -> list[int]:
        """Return the first and the last boundary between blocks, with neighbours."""
        return _boundaries(case.seqlen_kv, case.mask_block_size or 1)

    def label(self, case: Case) -> str:
        """Return the kind with the size of blocks and the text of the lists, shortened if it is long."""
        text = case.mask_blocks or ""
        if (path := file_of_blocks(text)) is not None:
            text = FILE_INPUTS + short(path)
        return f"block_sparse {case.mask_block_size} {text if len(text) <= 24 else text[:20] + '...'}"

    def misreadings(self, case: Case) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield lists of another block, indices off by one, the last block left out, and lists transposed."""
        text = case.mask_blocks or ""
        yield "if each block of queries has the list of the next one", {"mask_blocks": misread_blocks("next", text)}
        yield "if indices of blocks are one too high", {"mask_blocks": misread_blocks("one-beyond", text)}
        yield "if the last block of each list is left out", {"mask_blocks": misread_blocks("last-dropped", text)}
        yield "if two blocks of queries share the first one's list", {"mask_blocks": misread_blocks("pairs", text)}
        if case.seqlen_q == case.seqlen_kv:
            yield "with the lists transposed", {"mask_blocks": misread_blocks("transposed", text)}


def block_table(case: Case) -> NDArray[np.bool_]:
    """Return a read-only boolean table of the listed blocks, (blocks of queries, blocks of keys)."""
    assert case.mask_blocks is not None
    assert case.mask_block_size is not None
    return _table(case.mask_blocks, case.mask_block_size, case.seqlen_q, case.seqlen_kv, case.diagonal_offset)


def file_of_blocks(text: str) -> str | None:
    """The file that lists of blocks are read from, or ``None``."""
    return text.removeprefix(FILE_INPUTS) if text.startswith(FILE_INPUTS) else None


def misread_blocks(how: str, text: str) -> str:
    """Return the text of the lists as misread by one of ``_MISREAD``."""
    assert how in _MISREAD
    return f"{how}:{text}"


@functools.lru_cache(maxsize=4)
def _table(text: str, size: int, seqlen_q: int, seqlen_kv: int, offset: int) -> Table:
    how, _, rest = text.partition(":")
    if how in _MISREAD:
        table = _MISREAD[how](_table(rest, size, seqlen_q, seqlen_kv, offset))
    elif (path := file_of_blocks(text)) is not None:
        table = blocks_tensor(path, -(-seqlen_q // size), -(-seqlen_kv // size))
    elif how == "list":
        table = np.zeros((-(-seqlen_q // size), -(-seqlen_kv // size)), np.bool_)
        for row, listed in enumerate(_lists(text)):
            table[row, listed] = True
    else:
        starts = np.arange(0, seqlen_q, size)
        ends = np.minimum(starts + size, seqlen_q) - 1  # the last query of each block
        first, last = (starts + offset) // size, (ends + offset) // size  # blocks of its queries' own positions
        keys = np.arange(-(-seqlen_kv // size))
        numbers = [float(part.rstrip("%")) for part in rest.split(":")]
        if how == "local":
            near, globally = numbers
            table = (keys >= first[:, None] - near) & (keys <= last[:, None] + near) | (keys < globally)
        else:
            own = (keys >= first[:, None]) & (keys <= last[:, None])
            table = _drawn(own, numbers[0] / 100, int(rest.partition(":")[2]))
    table.flags.writeable = False
    return table


def _drawn(own: Table, density: float, seed: int) -> Table:
    """Return the diagonal blocks and random others, up to ``density`` of all; the diagonal ones always stay."""
    blocks = own.shape[1]
    count = round(density * blocks)
    table = np.array(own)
    for row, diagonal in enumerate(own):
        order = np.random.Generator(np.random.SFC64([seed, 2, row])).random((blocks,))
        order[diagonal] = -1.0
        table[row, np.argsort(order, kind="stable")[:count]] = True
    return table


def _lists(text: str) -> list[list[int]]:
    return [[int(block) for block in one.split("+") if block] for one in text.removeprefix("list:").split("/")]


def _sizes(length: int, size: int) -> NDArray[np.int64]:
    """Return the number of tokens of each block."""
    return np.minimum(size, length - np.arange(0, length, size, dtype=np.int64))


def _boundaries(length: int, size: int) -> list[int]:
    return around(size, (length - 1) // size * size)
