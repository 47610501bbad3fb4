"""Requests of a serving batch, as vLLM writes them: ``2q2k_32q1s1k`` is two prefills of 2048 tokens, and 32 decodes.

A segment ``[COUNT]qQUERIES[sKEYS]`` is ``COUNT`` equal requests: QUERIES new tokens, and KEYS tokens of the whole
sequence, the new ones included; KEYS defaults to QUERIES. Segments are joined by ``_``. ``kv`` and ``/`` are read as
``s``. (vLLM, benchmarks/attention_benchmarks/README.md.)
"""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 2**14
"""The longest text that is accepted, in characters."""
_MOST = 2**20
"""The most requests, the same limit as for the elements of a batch."""
_SIZE = "[0-9]{1,13}[kKmM]?"
SEGMENT = f"[0-9]{{0,7}}q{_SIZE}((s|kv|/){_SIZE})?"
_SEGMENT = re.compile(f"([0-9]{{0,7}})q({_SIZE})(?:(?:s|kv|/)({_SIZE}))?")
_UNITS = {"k": 1024, "m": 1024**2}


class Requests(NamedTuple):
    """Consecutive equal requests."""

    number: int
    queries: int
    """New tokens of each request: the last ones of its sequence."""
    keys: int
    """Tokens of each sequence, the new ones included."""

    @property
    def request_class(self) -> str:
        """``prefill`` if nothing is cached, ``decode`` for a single new token, else ``extend``."""
        if self.queries == self.keys:
            return "prefill"
        return "decode" if self.queries == 1 else "extend"

    @property
    def pairs(self) -> int:
        """Visible query-key pairs: a request's last query sees all its keys, each query before it one less."""
        return self.number * (self.queries * self.keys - self.queries * (self.queries - 1) // 2)


@functools.lru_cache(maxsize=1024)
def parse_requests(text: str) -> tuple[Requests, ...]:
    """Parse the requests of a batch, in order, with equal neighbours merged.

    Raises:
        ValueError: if the text is not a batch of requests; the message is the end of a sentence about the text.
    """
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST:,} characters")
    parsed = [_segment(part) for part in text.split("_")]
    if sum(one.number for one in parsed) > _MOST:
        raise ValueError(f"has more than {_MOST:,} requests, the most that attnbench accepts")
    neighbours = itertools.groupby(parsed, key=lambda one: one[1:])
    return tuple(Requests(sum(one.number for one in equal), *sizes) for sizes, equal in neighbours)


def _segment(part: str) -> Requests:
    match = _SEGMENT.fullmatch(part)
    if match is None:
        raise ValueError(
            f"has {part[:40]!r} where requests are COUNTqQUERIESsKEYS, such as 32q1s1k (32 requests of 1 query over "
            "1024 keys) or q2k, joined by _"
        )
    count, queries = int(match[1] or 1), _size(match[2])
    keys = _size(match[3]) if match[3] else queries
    if not count or not queries:
        raise ValueError(f"asks for nothing in {part!r}: counts and lengths are 1 at least")
    if keys < queries:
        raise ValueError(f"has {queries} queries and {keys} keys in {part!r}: queries are the last of a request's keys")
    return Requests(count, queries, keys)


def mistake_in_requests(value: object) -> str | None:
    """Return why a value is not a batch of requests, as the end of a sentence, or ``None``."""
    if not isinstance(value, str):
        return "is not a text such as 2q2k_32q1s1k"
    try:
        parse_requests(value)
    except ValueError as error:
        return str(error)
    return None


def _size(text: str) -> int:
    unit = text[-1].lower()
    return int(text[:-1]) * _UNITS[unit] if unit in _UNITS else int(text)


def written(batch: tuple[Requests, ...]) -> str:
    """Return the canonical text of a batch, such as ``2q2k_32q1s1k``."""
    return "_".join(
        f"{one.number if one.number > 1 else ''}q{_written(one.queries)}"
        + (f"s{_written(one.keys)}" if one.keys != one.queries else "")
        for one in batch
    )


def _written(size: int) -> str:
    for unit, of in (("m", 1024**2), ("k", 1024)):
        if size % of == 0:
            return f"{size // of}{unit}"
    return str(size)


def described(batch: tuple[Requests, ...]) -> str:
    """Return a batch's text if it is short, else the number of requests of each class."""
    text = written(batch)
    if len(text) <= 40:
        return text
    counts = {name: sum(one.number for one in batch if one.request_class == name) for name in CLASSES}
    return " ".join(f"{count} {name}" for name, count in counts.items() if count)


CLASSES = ("prefill", "extend", "decode")


def of_each(batch: tuple[Requests, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Queries and keys of the requests one by one: (requests,) each."""
    sizes = np.array([one[1:] for one in batch], np.int64).repeat([one.number for one in batch], axis=0)
    return sizes[:, 0], sizes[:, 1]


def own_keys(batch: tuple[Requests, ...]) -> NDArray[np.int64]:
    """The place among all keys where each query stands, (all queries,): the last one of a request at its last key."""
    queries, keys = of_each(batch)
    left = np.cumsum(queries).repeat(queries) - np.arange(1, queries.sum() + 1)  # queries of the request that follow
    return np.cumsum(keys).repeat(queries) - 1 - left


def tokens(batch: tuple[Requests, ...]) -> tuple[int, int]:
    """Return the number of queries and of keys of all requests."""
    return sum(one.number * one.queries for one in batch), sum(one.number * one.keys for one in batch)


def implied(value: object) -> dict[str, object]:
    """Return the fields of a case that follow from its requests; none if ``value`` is not a batch of requests."""
    if mistake_in_requests(value):
        return {}
    seqlen_q, seqlen_kv = tokens(parse_requests(str(value)))
    return {"mask": "ragged", "batch": 1, "seqlen_q": seqlen_q, "seqlen_kv": seqlen_kv}
