"""The view of a search, a bisection or an addition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.gate.verdict import REGRESSED
from attnbench.units import count, listing
from attnbench.views.document import Heading, Paragraph, Table, View, column
from attnbench.views.history.tables import changes_table, percent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnbench.history.adding import Added
    from attnbench.history.changes.candidates import Candidate
    from attnbench.history.revisions import Commit
    from attnbench.history.searching import Ended
    from attnbench.views.document import Block, Row


def found_view(candidates: Sequence[Candidate], ends: Sequence[Ended], line: Sequence[Commit]) -> View:
    """Show confirmed changes, the outcome of other candidates, and the candidates that were not tested."""
    changes = [end.change for end in ends if end.change is not None]
    blocks: list[Block] = []
    if changes:
        blocks += [
            Heading(text=f"{count(len(changes), 'change')} confirmed by the gate", level=1),
            changes_table(changes),
        ]
        blocks += [
            Paragraph(text=f"{one.revision[:10]} {one.subject}: {one.label}: {one.verdict}, {one.sentence}.")
            for one in changes
        ]
    else:
        blocks.append(Heading(text="No change was confirmed", level=1))
    subjects = {commit.revision: commit.subject for commit in line}
    others = [_other(end, subjects) for end in ends if end.change is None]
    if others:
        blocks += [Heading(text="What was not confirmed"), *(Paragraph(text=said) for said in others)]
    left = [one for one in candidates if one not in [end.candidate for end in ends]]
    if left:
        blocks += [Heading(text=f"Candidates that the gate has not seen: {len(left)}"), candidates_table(left)]
    rows: list[Row] = [change.model_dump(mode="json") for change in changes]
    facts = {"kind": "history_changes", "others": others, "candidates": [_row(one) for one in candidates]}
    return View(blocks=blocks, rows=rows, facts=facts)


def exit_code_of(ends: Sequence[Ended]) -> int:
    """Return 1 if a commit made something worse, 6 if one may have and the gate could not tell, else 0."""
    if any(end.change is not None and end.change.verdict in REGRESSED for end in ends):
        return 1
    unsure = [
        end for end in ends if end.finding is not None and end.finding.outcome not in ("confirmed", "not_confirmed")
    ]
    return 6 if any(end.candidate.verdicts & REGRESSED for end in unsure) else 0


def candidates_table(candidates: Sequence[Candidate]) -> Table:
    """Return a row for each candidate: a change of an estimated size between two revisions."""
    return Table(
        columns=[
            column("cell", "label"),
            column("metric"),
            column("by", "by", is_number=True),
            column("false discovery rate", "q_text", is_number=True),
            column("behind", "good", is_code=True),
            column("up to", "bad", is_code=True),
        ],
        rows=[
            _row(one) | {
                "by": percent(None if one.size is None else 1 + one.size),
                "q_text": "—" if one.q is None else f"{one.q:.2g}",
                "good": one.good[:10], "bad": one.bad[:10],
            }
            for one in candidates
        ],
    )  # fmt: skip


def added_view(added: Added, path: Path) -> View:
    """Show the outcome of each revision that was requested."""
    blocks: list[Block] = [Heading(text=f"{count(len(added.measured), 'revision')} added to {path}", level=1)]
    sentences = [f"{one.revision[:10]} {one.subject}" for one in added.measured]
    sentences += [f"{one[:10]} is the same code as {same[:10]}" for one, same in added.same.items()]
    sentences += [f"{one[:10]} could not be measured: {why}" for one, why in added.failed.items()]
    if added.left:
        sentences.append(f"{count(added.left, 'revision')} left for the next time: the same command goes on.")
    blocks += [Paragraph(text=said) for said in sentences]
    rows: list[Row] = [{"revision": one.revision, "subject": one.subject, "date": one.date} for one in added.measured]
    facts = {"kind": "history_added", "same": added.same, "failed": added.failed, "left": added.left}
    return View(blocks=blocks, rows=rows, facts=facts)


def _other(end: Ended, subjects: dict[str, str]) -> str:
    """Describe a candidate for which no commit was found, in one sentence."""
    assert end.finding is not None
    one, finding = end.candidate, end.finding
    about = f"{one.label}, {one.metric}, {finding.before[:10]} to {one.bad[:10]}"
    match finding.outcome:
        case "spread":
            size = percent(finding.judgement.ratio)
            return f"{about}: {size} in all, spread over several commits, none of which is beyond what is tolerated."
        case "narrowed":
            names = listing([f"{name[:10]} {subjects.get(name, '')}".strip() for name in finding.suspects])
            return (
                f"{about}: {percent(finding.judgement.ratio)}, made by one of these, which could not be told: {names}."
            )
        case "cannot_tell":
            return f"{about}: the gate cannot tell: {finding.judgement.sentence}."
        case _:
            return f"{about}: not confirmed: {finding.judgement.sentence}."


def _row(one: Candidate) -> Row:
    return {
        "label": one.label, "metric": one.metric, "verdicts": sorted(one.verdicts), "good": one.good, "bad": one.bad,
        "size": one.size, "q": one.q,
    }  # fmt: skip
