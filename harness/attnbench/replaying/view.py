"""The view of a replay: tables of implementations, of the best for each call, and of calls that are not served."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.capturing.layers import in_short
from attnbench.replaying.sentence import sentence
from attnbench.units import ABSENT, count, duration_interval, listing, shown, times
from attnbench.views import columns
from attnbench.views.cells import NEVER_RAN
from attnbench.views.document import Block, Column, Heading, Paragraph, Row, Table, View, column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.replaying.estimate import PartOfMix, Replay, Total, Unserved
    from attnbench.store.capture import CapturedCall
    from attnbench.views.estimates import Estimate

MIX = "the best of each call"
_HOW = (
    "Estimates (≈): attention is the sum of each call's median times how often it is made, what is not served as in "
    "the model; the model is its time less its own attention's plus that. Intervals: the ends of the calls' added up."
)


def replay_view(replay: Replay, name: str, run: str) -> View:
    """Return the view of a replay."""
    rows = [_own_row(replay), *map(_row, replay.totals), *([_mix_row(replay)] if replay.totals else [])]
    said = sentence(replay)
    unserved = _unserved_rows(replay)
    blocks: list[Block] = [Heading(text=f"Replay of {name}", level=1), Table(columns=_columns(), rows=rows)]
    blocks.append(Paragraph(text=_HOW))
    blocks += [Heading(text="The best of each call"), Table(columns=_PARTS, rows=[_part_row(p) for p in replay.mix])]
    if unserved:
        blocks += [Heading(text="Calls that are not served"), Table(columns=_UNSERVED, rows=unserved)]
    blocks += [Paragraph(text=one) for one in [*_notes(replay), said]]
    facts = {
        "kind": "replay",
        "capture": name,
        "run": run,
        "sentence": said,
        "calls": [_part_row(part) for part in replay.mix],
        "unserved": unserved,
        "serve_none": [one.implementation for one in replay.others],
    }
    return View(blocks=blocks, rows=rows, facts=facts)


def _own_row(replay: Replay) -> Row:
    capture = replay.capture
    calls = sum(call.calls for call in capture.calls)
    return {
        "implementation": columns.OWN,
        "attention_s": capture.attention_seconds,
        "attention_low_s": None,
        "attention_high_s": None,
        "speedup": 1.0,
        "model_s": capture.total_seconds,
        "model_low_s": None,
        "model_high_s": None,
        "is_estimate": False,
        "calls": calls,
        "calls_served": calls,
        "share_served": 1.0,
        "memory_peak_bytes": None,
    }


def _row(one: Total) -> Row:
    calls = [*one.served, *(left.call for left in one.unserved)]
    return {
        **_times(one.attention, one.model, sum(call.seconds for call in calls)),
        "implementation": one.implementation,
        "calls": _number(calls),
        "calls_served": _number(one.served),
        "share_served": one.share_served,
        "memory_peak_bytes": one.peak_bytes,
    }


def _mix_row(replay: Replay) -> Row:
    served = [part.call for part in replay.mix if part.implementation]
    own = replay.capture.attention_seconds
    return {
        **_times(replay.mix_attention, replay.mix_model, own),
        "implementation": MIX,
        "calls": _number(replay.capture.calls),
        "calls_served": _number(served),
        "share_served": sum(call.seconds for call in served) / own if own else 0.0,
        "memory_peak_bytes": replay.mix_peak_bytes,
    }


def _times(attention: Estimate, model: Estimate, own_s: float) -> Row:
    return {
        "implementation": "",
        "attention_s": attention.value,
        "attention_low_s": attention.low,
        "attention_high_s": attention.high,
        "speedup": own_s / attention.value if attention.value else None,
        "model_s": model.value,
        "model_low_s": model.low,
        "model_high_s": model.high,
        "is_estimate": True,
    }


def _number(calls: Sequence[CapturedCall]) -> int:
    return sum(call.calls for call in calls)


def _columns() -> list[Column]:
    return [
        columns.IMPLEMENTATION,
        Column(title="attention", text=lambda row: shown(row["attention_s"], "s"), is_number=True),
        Column(title="interval", text=lambda row: _interval(row, "attention"), is_number=True, spare=4),
        Column(title="as fast", text=lambda row: times(row["speedup"]), is_number=True, spare=1),
        Column(title="the model", text=_model_text, is_number=True),
        Column(title="serves", text=_served_text, is_number=True, spare=2),
        column("peak of a call", "memory_peak_bytes", unit="bytes", spare=3),
    ]


def _interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_low_s"], row[f"{name}_high_s"]
    return duration_interval(None if low is None else 1e9 * low, None if high is None else 1e9 * high)


def _model_text(row: Row) -> str:
    said = shown(row["model_s"], "s")
    return f"≈ {said}" if row["is_estimate"] else said


def _served_text(row: Row) -> str:
    if row["calls_served"] == row["calls"]:
        return f"all {row['calls']:,}" if row["calls"] > 1 else "1"
    return f"{row['calls_served']:,} of {row['calls']:,}"


def _part_row(part: PartOfMix) -> Row:
    call = part.call
    return {
        "call": call.shape,
        "case": part.label,
        "calls": call.calls,
        "layers": list(call.layers),
        "own_s": call.seconds,
        "implementation": part.implementation or columns.OWN,
        "seconds": part.seconds.value,
        "seconds_low": part.seconds.low,
        "seconds_high": part.seconds.high,
        "speedup": call.seconds / part.seconds.value if part.seconds.value else None,
        "next_best": part.next_best,
    }


_PARTS = [
    column("call"),
    column("calls", unit="count"),
    Column(title="layers", text=lambda row: in_short(row["layers"]) if row["layers"] else ABSENT, spare=4),
    column("case", spare=3),
    Column(title="in the model", text=lambda row: shown(row["own_s"], "s"), is_number=True),
    dataclasses.replace(columns.IMPLEMENTATION, title="best"),
    Column(title="takes", text=lambda row: shown(row["seconds"], "s"), is_number=True),
    Column(title="as fast", text=lambda row: times(row["speedup"]), is_number=True, spare=1),
    column("next", "next_best", spare=2),
]


def _unserved_rows(replay: Replay) -> list[Row]:
    """Return a row per implementation and reason; implementations that serve no call only if one failed or is wrong."""
    alike: dict[tuple[str, str, str], list[Unserved]] = {}
    for total in (*replay.totals, *replay.others):
        for one in total.unserved:
            if total.served or one.status not in NEVER_RAN:
                alike.setdefault((total.implementation, one.status, one.reason), []).append(one)
    return [
        {
            "implementation": name,
            "calls": [one.call.shape for one in left],
            "status": status,
            "reason": reason,
            "instead": list(dict.fromkeys(one.instead for one in left if one.instead)),
        }
        for (name, status, reason), left in alike.items()
    ]


_UNSERVED = [
    columns.IMPLEMENTATION,
    Column(title="calls", text=lambda row: listing(row["calls"])),
    dataclasses.replace(columns.STATUS, spare=0),
    Column(title="the fastest there", text=lambda row: shown(row["instead"] or None, "text")),
    column("reason"),
]


def _notes(replay: Replay) -> list[str]:
    """Return sentences on facts that are not in the tables."""
    capture = replay.capture
    notes = [*capture.notes]
    notes += [
        f"Not among these calls: {count(one.calls, 'call')} of {one.what}: {one.reason}" for one in capture.unmatched
    ]
    never = [one.implementation for one in replay.others if all(left.status in NEVER_RAN for left in one.unserved)]
    if never:
        names = listing(never, most=8)
        notes.append(f"Serve none of the calls: {names}; attnbench show tells why.")
    return notes
