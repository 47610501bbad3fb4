"""The view of a gate's result: failures first, one sentence for each verdict."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from attnbench.grouping import grouped
from attnbench.units import ABSENT, count, listing
from attnbench.views.document import Block, Column, Heading, Paragraph, Row, Table, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.gate.verdict import GateResult, SideFacts, Verdict

_ORDER = (
    "wrong", "lost", "slower", "bigger", "steeper", "invalid", "not_measured", "not_comparable", "ambiguous",
    "faster", "smaller", "flatter", "gained", "same",
)  # fmt: skip
_METRICS = ("outcome", "time", "memory", "exponent")
_TITLES = {
    0: "The gate passes",
    1: "The gate fails: a regression",
    4: "The gate fails: cells failed",
    5: "The gate fails: cells were not measured",
    6: "The gate cannot tell",
}


def gate_view(result: GateResult) -> View:
    """Show everything that a gate found."""
    blocks: list[Block] = [
        Heading(text=f"{title(result)}: {result.head.label} against {result.base.label}", level=1),
        *([Paragraph(text=by_metric(result.verdicts))] if result.verdicts else []),
        Paragraph(text=result.sentence),
        *(Paragraph(text=problem) for problem in result.problems),
    ]
    ordered = sorted(result.all_verdicts, key=_place)
    loud = [one for one in ordered if one.verdict != "same" or one.waived]
    if loud:
        blocks += [Heading(text="What changed, or could not be told"), _table(loud)]
        shown = [one for one in loud if one.repro and _is_bad(one)]
        if shown:
            blocks += [Heading(text="To see it again"), _commands(shown)]
    calm = [one for one in ordered if one not in loud]
    times = [one for one in calm if one.metric == "time"]
    if times:
        blocks += [Heading(text=f"The same: {count(len(times), 'time')}"), _table(times)]
    others = collections.Counter(one.metric for one in calm if one.metric != "time")
    blocks += [Paragraph(text=_calm(metric, number)) for metric, number in others.items()]
    blocks += [Heading(text="How it was measured"), *(Paragraph(text=sentence) for sentence in how(result))]
    facts = result.model_dump(mode="json")
    return View(blocks=blocks, rows=[_row(one) for one in ordered], facts=facts)


def title(result: GateResult) -> str:
    """Return the outcome in a few words."""
    return _TITLES[result.exit_code]


def by_metric(verdicts: Sequence[Verdict]) -> str:
    """Count the verdicts of each metric, the worst first: ``Time: 3 of 3 slower. Memory: 3 of 3 same.``."""
    of_metric: dict[str, collections.Counter[str]] = {}
    for one in sorted(verdicts, key=_place):
        of_metric.setdefault(one.metric, collections.Counter())[one.verdict.replace("_", " ")] += 1
    order = sorted(of_metric, key=lambda metric: _METRICS.index(metric) if metric in _METRICS else len(_METRICS))
    return " ".join(f"{metric.capitalize()}: {_shares(of_metric[metric])}." for metric in order)


def _shares(counts: collections.Counter[str]) -> str:
    whole = counts.total()
    return ", ".join(f"{number} of {whole} {verdict}" for verdict, number in counts.items())


def how(result: GateResult) -> list[str]:
    """Describe the two sides and the rules."""
    rules = result.rules
    said = [f"{name}: {_about(side)}." for name, side in (("base", result.base), ("head", result.head))]
    if result.identical:
        return said
    screens = sum(one.stage == "screen" for one in result.rounds)
    confirms = len(result.rounds) - screens
    if result.mode == "baseline":
        measured, again = f"{rules['screen_rounds']:g} fresh processes of head for each cell", rules["confirm_rounds"]
    else:
        measured, again = f"{screens} rounds of both sides in fresh processes", confirms
    more = f"{again:g} more for suspects and sentinels" if confirms else "no suspect"
    said.append(
        f"Scenario {result.scenario}: {measured}, {more}; changes of up to {100 * rules['delta']:.3g} % are tolerated, "
        f"q = {rules['q']:g}; {result.wall_s:.0f} s."
    )
    if result.unsupported:
        said.append(f"{count(result.unsupported, 'cell')} are not judged, because neither side claims them.")
    if result.calibration:
        said.append(f"Noise floors of this machine are from {result.calibration}.")
    return [*said, *result.notes]


def _calm(metric: str, number: int) -> str:
    if metric == "outcome":
        return f"{count(number, 'cell')} were not timed, and agree with the oracle on both sides."
    if metric == "exponent":
        return f"Growth with the sequence length is the same in {count(number, 'series', 'series')}."
    return f"Peak memory is the same in {count(number, 'cell')}."


def _about(side: SideFacts) -> str:
    article = "an" if side.kind == "environment" else "a"
    return f"{side.label}, {article} {side.kind}; code {side.identity}, dependencies {side.dependencies}"


def _place(one: Verdict) -> tuple[int, int, float]:
    return (int(bool(one.waived)), _ORDER.index(one.verdict), -(one.ratio or 0.0))


def _is_bad(one: Verdict) -> bool:
    return one.verdict not in ("same", "faster", "smaller", "flatter", "gained") and one.implementation is not None


def _row(one: Verdict) -> Row:
    return {**one.model_dump(mode="json", exclude={"waived"}), "waived": one.waived.reason if one.waived else None}


def _verdict(row: Row) -> str:
    name = str(row["verdict"]).replace("_", " ")
    return f"{name} (waived)" if row["waived"] else name


def _sentence(row: Row) -> str:
    return f"{row['sentence']}; waived: {row['waived']}" if row["waived"] else str(row["sentence"])


def _detectable(row: Row) -> str:
    """Return the smallest change that would have been found; absent for a change that was found."""
    if row["detectable"] is None or row["verdict"] not in ("same", "ambiguous"):
        return ABSENT
    return f"{100 * row['detectable']:.1f} %"


def _table(verdicts: Sequence[Verdict]) -> Table:
    return Table(
        columns=[
            Column(title="verdict", text=_verdict, is_status=True),
            Column(title="metric", text=lambda row: str(row["metric"])),
            Column(title="cell", text=lambda row: str(row["label"])),
            Column(title="what was found", text=_sentence),
            Column(title="detectable", text=_detectable, is_number=True, spare=1),
        ],
        rows=[_row(one) for one in verdicts],
    )


def _commands(verdicts: Sequence[Verdict]) -> Table:
    rows: list[Row] = [
        {"label": listing(list(dict.fromkeys(one.label for one in alike)), 2), "repro": repro}
        for repro, alike in grouped(verdicts, lambda one: one.repro).items()
    ]
    return Table(
        columns=[
            Column(title="cell", text=lambda row: str(row["label"])),
            Column(title="command", text=lambda row: str(row["repro"]), is_code=True),
        ],
        rows=rows,
    )
