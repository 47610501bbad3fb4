"""Sentences on an implementation that disagrees: the simplest case, and the properties that all wrong cases share."""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import TYPE_CHECKING, Any

from attnbench.cases.case import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from attnbench.cases.case import Case
    from attnbench.store.record import Record

_PARTS = re.compile(r"; (?=(?:out|lse|dq|dk|dv|dbias)\b|a guess at the cause)")
_CAUSE = "a guess at the cause"
_GUESS = re.compile(r"; a guess at the cause: (.*)", re.DOTALL)
IN_FULL = 3
"""The number of an implementation's disagreements that are printed as they are found; the run file has the others."""
_SHOWN = 2
_TILE = 64
_FIELDS = (
    "operator", "mode", "dtype", "mask", "alignment", "score_mod", "bias_grad", "dropout", "kv_cache", "kv_dtype",
    "strides", "inputs", "head_dim",
)  # fmt: skip
_TRAITS: Mapping[str, Callable[[Case], bool]] = {
    "batch > 1": lambda case: case.batch > 1,
    "heads_q > heads_kv": lambda case: case.heads_q > case.heads_kv,
    "head_dim > 64": lambda case: case.head_dim > 64,
    "head_dim > 128": lambda case: case.head_dim > 128,
    "head_dim_v unlike head_dim": lambda case: case.head_dim_v != case.head_dim,
    "seqlen_q unlike seqlen_kv": lambda case: case.seqlen_q != case.seqlen_kv,
    "seqlen_q > seqlen_kv": lambda case: case.seqlen_q > case.seqlen_kv,
    "seqlen_kv that is no multiple of 32": lambda case: case.seqlen_kv % 32 != 0,
    "seqlen_kv that is no multiple of 64": lambda case: case.seqlen_kv % 64 != 0,
    "seqlen_kv that is no multiple of 128": lambda case: case.seqlen_kv % 128 != 0,
    "seqlen_kv > 64": lambda case: case.seqlen_kv > 64,
    "seqlen_kv > 128": lambda case: case.seqlen_kv > 128,
}


@dataclasses.dataclass(frozen=True)
class _Seen:
    case: Case
    record: Record

    @property
    def guess(self) -> str | None:
        """The oracle's guess at the cause, if it has one."""
        found = _GUESS.search(self.record.reason or "")
        return found[1] if found else None


@dataclasses.dataclass
class Disagreements:
    """The judged cells of one run, by implementation."""

    judged: dict[str, dict[str, _Seen]] = dataclasses.field(default_factory=dict)
    """By implementation and case; of several processes, the one that disagreed."""

    def saw(self, case: Case, record: Record) -> bool:
        """Remember a cell, and return whether to print it now."""
        if record.status not in ("ok", "wrong"):
            return True
        known = self.judged.setdefault(record.implementation, {})
        if record.status == "wrong" or case.case_id not in known:
            known[case.case_id] = _Seen(case, record)
        return sum(1 for seen in known.values() if seen.record.status == "wrong") <= IN_FULL

    def summary(self) -> Iterator[str]:
        """Summarize each implementation that disagrees in several cases.

        The lines are the number of wrong cases, the most frequent guess at a cause, the properties that they share, and
        the simplest case with that guess.
        """
        for name, by_case in self.judged.items():
            seen = list(by_case.values())
            wrong = [one for one in seen if one.record.status == "wrong"]
            if len(wrong) < 2:
                continue
            right = [one.case for one in seen if one.record.status == "ok"]
            yield f"{name} disagrees in {len(wrong)} of the {len(seen)} cases that it was judged on"
            guesses = collections.Counter(one.guess for one in wrong if one.guess)
            guess = max(guesses, key=lambda text: guesses[text], default=None)
            if guess:
                yield f"    a guess at the cause of {guesses[guess]} of them: {guess}"
            for sentence in in_common([one.case for one in wrong], right):
                yield f"    {sentence}"
            simplest = min((one for one in wrong if one.guess == guess), key=lambda one: _effort(one.case, one.record))
            record = simplest.record.model_copy(update={"reason": _GUESS.sub("", simplest.record.reason or "")})
            said = special(simplest.case)
            yield f"    the simplest{f' ({said})' if said else ''}: {told(simplest.case, record)}"


def told(case: Case, record: Record) -> str:
    """Describe a cell that failed: its cause, what happened, a line for each tensor, and the command to repeat it."""
    parts = [record.reason or ""]
    if record.status == "wrong":
        parts = sorted(_PARTS.split(parts[0]), key=lambda part: not part.startswith(_CAUSE))
    first = f"{record.status}: {record.implementation}, {case.label()}"
    if len(parts) == 1:
        return f"{first}: {parts[0]}\n    {record.repro}"
    return "\n    ".join([f"{first}:", *parts, record.repro])


def special(case: Case) -> str:
    """Return the features by which a case differs from the plainest one, in words; empty for the plainest itself."""
    said = []
    if case.seqlen_q != case.seqlen_kv:
        fewer = "fewer queries than keys" if case.seqlen_q < case.seqlen_kv else "more queries than keys"
        said.append("one query" if case.seqlen_q == 1 else fewer)
    if case.on_diagonal and case.alignment != DEFAULTS["alignment"]:
        said.append(case.alignment)
    if case.mask != "none":
        said.append(case.mask)
    if case.seqlen_kv % _TILE:
        said.append(f"keys that end {case.seqlen_kv % _TILE} into a tile of {_TILE}")
    if case.heads_q != case.heads_kv:
        said.append(f"{case.heads_q // case.heads_kv} query heads for each key head")
    if case.head_dim != case.head_dim_v:
        said.append("a V that is narrower" if case.head_dim_v < case.head_dim else "a V that is wider")
    if case.head_dim & (case.head_dim - 1):
        said.append(f"head_dim {case.head_dim}, no power of 2")
    said += ["several batch elements"] if case.batch > 1 else []
    for name in ("score_mod", "kv_cache", "kv_dtype", "strides", "inputs"):
        if (value := getattr(case, name)) != DEFAULTS[name]:
            said.append(f"{name} {value}")
    return ", ".join(said)


def in_common(wrong: Sequence[Case], right: Sequence[Case]) -> Iterator[str]:
    """Yield the properties that all wrong cases have, and at most half of the right ones."""
    if not right:
        yield "no case agrees"
        return
    found = []
    for said, holds in _properties([*wrong, *right]):
        if all(holds(case) for case in wrong):
            also = sum(1 for case in right if holds(case))
            if also <= len(right) / 2:
                found.append((also, said))
    for also, said in sorted(found, key=lambda pair: pair[0])[:_SHOWN]:
        others = "none that agrees has it" if also == 0 else f"of the {len(right)} that agree {also} have it, too"
        yield f"all of them have {said}; {others}"


def _properties(cases: Sequence[Case]) -> Iterator[tuple[str, Callable[[Case], bool]]]:
    """Yield predicates on a case, each with its words."""
    for name in _FIELDS:
        values = list(dict.fromkeys(getattr(case, name) for case in cases))
        if len(values) > 1:
            for value in values:
                yield f"{name} = {value}", _is(name, value)
                if len(values) > 2:  # of two, one is what the other is not
                    yield f"{name} other than {value}", _is_not(name, value)
    yield from _TRAITS.items()


def _is(name: str, value: object) -> Callable[[Case], bool]:
    return lambda case: bool(getattr(case, name) == value)


def _is_not(name: str, value: object) -> Callable[[Case], bool]:
    return lambda case: bool(getattr(case, name) != value)


def _effort(case: Case, record: Record) -> tuple[Any, ...]:
    """Return the sort key of simplicity: the number of options to type first, then the size."""
    size = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv * (case.head_dim + case.head_dim_v)
    return len(record.repro.split(" -a ")), case.mode != "forward", size
