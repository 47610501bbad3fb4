"""The view of a verified model: tables of the outputs' moves and of wall times."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from attnbench.units import count, duration, duration_interval, number, times, times_interval
from attnbench.views import columns
from attnbench.views.document import Block, Column, Heading, Paragraph, Row, Table, View, column
from attnbench.views.estimates import CellTiming, Visits, difference, ratio, sample_interval

if TYPE_CHECKING:
    from attnbench.put_back.verified import Move, Verified

_MOST_ROWS = 12
"""Largest number of outputs in the table: those that moved most."""


def verified_view(verified: Verified) -> View:
    """Return the view of a verified model."""
    original, replaced = (_timing(samples) for samples in (verified.original_s, verified.replaced_s))
    rows = [_output_row(move) for move in verified.moves]
    worst = sorted(rows, key=lambda row: -row["ratio"])[:_MOST_ROWS] if len(rows) > _MOST_ROWS else rows
    times_of = [_time_row(columns.OWN, original), _time_row(verified.implementation, replaced)]
    said = [_on_outputs(verified), _on_time(verified, original, replaced)]
    blocks: list[Block] = [
        Heading(text=f"The model with {verified.implementation}", level=1),
        Table(columns=_OUTPUTS, rows=worst),
        *([Paragraph(text=f"{count(len(rows) - len(worst), 'output')} moved less.")] if worst != rows else []),
        Table(columns=_TIMES, rows=times_of),
        *(Paragraph(text=f"{count(n, 'call')} left to the model: {why}") for why, n in verified.fallbacks.items()),
        *(Paragraph(text=sentence) for sentence in said),
    ]
    facts = {
        "kind": "verify",
        "implementation": verified.implementation,
        "calls": verified.calls,
        "fallbacks": verified.fallbacks,
        "times": times_of,
        "sentences": said,
    }
    return View(blocks=blocks, rows=rows, facts=facts)


def _timing(seconds: tuple[float, ...]) -> CellTiming:
    samples = [1e9 * one for one in seconds]
    return CellTiming(
        medians=(statistics.median(samples),),
        intervals=(sample_interval(samples, None, None),),
        visits=(Visits(run="verify", medians=tuple(samples)),),
    )


def _output_row(move: Move) -> Row:
    return {
        "output": move.output,
        "move": move.relative,
        "move_bound": move.bound,
        "row_move_ratio": move.row_ratio,
        "ratio": move.ratio,
        "rows_left_out": move.rows_left_out,
        "agrees": move.agrees,
    }


_OUTPUTS = [
    column("output"),
    Column(title="moved by", text=lambda row: f"{row['move']:.2e}", is_number=True),
    Column(title="bound", text=lambda row: f"{row['move_bound']:.2e}", is_number=True),
    Column(title="its worst row / bound", text=lambda row: number(row["row_move_ratio"]), is_number=True, spare=2),
    Column(title="rows left out", text=lambda row: f"{row['rows_left_out']:,}", is_number=True, spare=1),
    column("agrees", unit="yes/no"),
]


def _time_row(name: str, timing: CellTiming) -> Row:
    estimate = timing.estimate
    return {
        "implementation": name,
        "time_ns": estimate.value,
        "low_ns": estimate.low,
        "high_ns": estimate.high,
    }


_TIMES = [
    columns.IMPLEMENTATION,
    Column(title="the model", text=lambda row: duration(row["time_ns"]), is_number=True),
    Column(title="range", text=lambda row: duration_interval(row["low_ns"], row["high_ns"]), is_number=True),
]


def _on_outputs(verified: Verified) -> str:
    worst = max(verified.moves, key=lambda move: move.ratio)
    who = verified.implementation
    if worst.agrees:
        return (
            f"{who} agrees with the model's own attention: no output moves by more than {number(worst.ratio)} of what "
            "rounding errors of attention may move it by."
        )
    return (
        f"{who} is wrong in this model: {worst.output} moves by {worst.relative:.2e} of its size, {times(worst.ratio)} "
        "what rounding errors of attention may move it by."
    )


def _on_time(verified: Verified, original: CellTiming, replaced: CellTiming) -> str:
    gain = ratio(original, replaced)
    ends = times_interval(gain.low, gain.high)
    runs = count(len(verified.replaced_s), "run")
    return (
        f"Side by side with its own attention, in {runs} of each, the model is {times(gain.value)} as fast ({ends}, "
        f"{difference(original, replaced, gain)}): {duration(replaced.value)} beside {duration(original.value)}; "
        f"{count(verified.calls, 'call')} of a run are computed by {verified.implementation}."
    )
