"""The page of ``attnbench inspect``: mask, weights and entropy by head, and errors over (query or key, feature)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.stages.agreement import JUDGED_TENSORS
from attnbench.units import count, number
from attnbench.views.document import Heading, Paragraph, Table, View, column
from attnbench.views.report.blocks import Block, Contradiction, Figure, Lead, Picture, ReportPage, Section
from attnbench.views.report.charts.drawing import FOCUS, TOOLTIP, colour, drawn, layer, legend_of, quantity
from attnbench.views.report.charts.marks import Mark, marks_of
from attnbench.views.report.charts.matrix import Axis, matrix
from attnbench.views.report.write import write_page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from attnbench.views.document import Block as DocumentBlock
    from attnbench.views.document import Row

_MOST_LINES = 200
"""The most queries in an entropy curve."""


def write_inspection_page(folder: Path) -> bool:
    """Write ``index.html``, ``report.md`` and the pictures next to an inspection's data.

    Returns:
        Whether an implementation disagrees.
    """
    facts = json.loads((folder / "inspection.json").read_text(encoding="utf-8"))
    with np.load(folder / "inside.npz") as inside:
        report = inspection_report(facts, dict(inside), _errors(folder, facts))
    write_page(report, folder)
    return any(one["status"] == "wrong" for one in facts["implementations"])


def _errors(folder: Path, facts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for one in facts["implementations"]:
        if one["errors"]:
            with np.load(folder / one["errors"]) as arrays:
                found[one["implementation"]] = dict(arrays)
    return found


def inspection_report(
    facts: Mapping[str, Any], inside: Mapping[str, Any], errors: Mapping[str, Mapping[str, Any]]
) -> ReportPage:
    """Return the page of ``inspection.json``, ``inside.npz``, and each implementation's ``errors-N.npz``."""
    heads = [f"head {head}" for head in facts["heads"]]
    marks = marks_of(heads)
    sections = [
        Section(anchor="mask", title="Who sees whom", blocks=_mask(facts, inside)),
        Section(anchor="weights", title="Attention weights", blocks=_weights(facts, inside)),
        Section(anchor="entropy", title="Entropy", blocks=[_entropy(heads, inside, marks)]),
    ]
    if facts["implementations"]:
        told = Section(anchor="errors", title="Implementations", blocks=_implementations(facts, errors))
        is_found = any(one["status"] == "wrong" for one in facts["implementations"])
        sections.insert(0 if is_found else len(sections), told)
    sections.append(Section(anchor="provenance", title="The case", blocks=[_case_table(facts)]))
    return ReportPage(title="Attention itself", subtitle=facts["label"], sections=sections, marks=marks, marked="heads")


def inspection_view(page: Path) -> View:
    """Show an inspection in a terminal or a notebook: the share of visible pairs, and the table of errors."""
    facts = json.loads((page.parent / "inspection.json").read_text(encoding="utf-8"))
    table = _error_table(facts)
    blocks: list[DocumentBlock] = [
        Heading(text=f"Attention itself: {facts['label']}", level=1),
        Paragraph(text=_visible(facts)),
        *([table] if table.rows else []),
        Paragraph(text=f"The page: {page}"),
    ]
    return View(blocks=blocks, rows=table.rows, facts=facts)


def _visible(facts: Mapping[str, Any]) -> str:
    visible, pairs = facts["visible"], facts["case"]["seqlen_q"] * facts["case"]["seqlen_kv"]
    return f"{visible:,} of {count(pairs, 'pair')} of a query and a key are visible: {number(100 * visible / pairs)} %."


def _mask(facts: Mapping[str, Any], inside: Mapping[str, Any]) -> list[Block]:
    case, said = facts["case"], _visible(facts)
    return [
        Lead(text=said),
        Picture(
            stem="mask",
            title=f"mask {case['mask']}: queries down, keys across",
            alt=f"Mask {case['mask']}, queries down and keys across. {said}",
            svg=matrix(inside["mask"], *_axes(case)),
            table=_rows_table(inside["mask"], "keys that it sees, %", 100),
        ),
    ]


def _axes(case: Mapping[str, Any]) -> tuple[Axis, Axis]:
    """Return the axes of queries (down) and keys (across)."""
    return Axis(title="query", size=case["seqlen_q"]), Axis(title="key", size=case["seqlen_kv"])


def _rows_table(plane: Any, title: str, factor: float) -> Table:
    """Return the mean of some rows of a picture."""
    step = max(1, len(plane) // 16)
    rows: list[Row] = [
        {"row": f"{100 * i / len(plane):.0f} %", "mean": factor * float(plane[i].mean())}
        for i in range(0, len(plane), step)
    ]
    first = column("queries, from the first", "row", is_number=True)
    return Table(columns=[first, column(title, "mean", unit="ratio")], rows=rows)


def _weights(facts: Mapping[str, Any], inside: Mapping[str, Any]) -> list[Block]:
    fine = inside["weights"].shape[1:]
    exact = fine == (facts["case"]["seqlen_q"], facts["case"]["seqlen_kv"])
    what = "Each field is one query and one key" if exact else "Each field is the mean over some queries and keys"
    blocks: list[Block] = [
        Paragraph(text=f"{what}; its colour is as dense as the square root of the weight over the head's largest one.")
    ]
    for index, head in enumerate(facts["heads"]):
        plane, tops = inside["weights"][index], inside["top_key"][index]
        entropy = inside["entropy"][index]
        largest = float(plane.max())
        said = f"largest {number(largest)}, mean entropy {number(float(entropy.mean()))} bits"
        blocks.append(
            Picture(
                stem=f"weights-{head}",
                title=f"head {head}: {said}",
                alt=f"Attention weights of head {head}, queries down and keys across: {said}.",
                svg=matrix(plane, *_axes(facts["case"])),
                table=_queries_table(entropy, tops),
            )
        )
    return blocks


def _queries_table(entropy: Any, tops: Any) -> Table:
    step = max(1, len(entropy) // 16)
    rows: list[Row] = [
        {"query": i, "entropy": float(entropy[i]), "top": "none" if tops[i] < 0 else int(tops[i])}
        for i in range(0, len(entropy), step)
    ]
    query, top = column("query", is_number=True), column("largest weight on key", "top", is_number=True)
    return Table(columns=[query, column("entropy, bits", "entropy", unit="ratio"), top], rows=rows)


def _entropy(heads: list[str], inside: Mapping[str, Any], marks: Mapping[str, Mark]) -> Figure:
    entropies = inside["entropy"]
    queries = np.unique(np.linspace(0, entropies.shape[1] - 1, _MOST_LINES).round().astype(int))
    rows = [
        {
            "implementation": head,
            "query": int(query),
            "value": round(float(entropies[index, query]), 4),
            "at": f"query {query}",
            "text": f"{entropies[index, query]:.3f} bits",
        }
        for index, head in enumerate(heads)
        for query in queries
    ]
    encoding = {
        "x": quantity("query", title="query"),
        "y": quantity("value", title="entropy of its weights, bits"),
        "color": colour(marks, heads, legend_of(heads)),
        "opacity": FOCUS,
        "tooltip": TOOLTIP,
    }
    table_rows: list[Row] = [
        {"implementation": head, "least": float(e.min()), "mean": float(e.mean()), "most": float(e.max())}
        for head, e in zip(heads, entropies, strict=True)
    ]
    means = [row["mean"] for row in table_rows]
    return Figure(
        stem="entropy",
        title="entropy of each query's weights",
        alt=f"Entropy of the attention weights over the queries, a curve for each head. Mean {number(min(means))} to "
        f"{number(max(means))} bits: 0 is a single key, log2 of the visible keys is the plain mean of them.",
        drawing=drawn([layer({"type": "line", "strokeWidth": 1.5}, encoding)], rows, 300),
        table=Table(
            columns=[
                column("head", "implementation", is_implementation=True),
                *(column(name, unit="ratio") for name in ("least", "mean", "most")),
            ],
            rows=table_rows,
        ),
    )


def _error_table(facts: Mapping[str, Any]) -> Table:
    rows = [
        {
            "implementation": one["implementation"],
            "status": one["status"],
            **{name: one["fields"].get(f"{name}_error_ratio") for name in JUDGED_TENSORS},
            "reason": one["reason"] or "",
            "repro": one["repro"],
        }
        for one in facts["implementations"]
    ]
    judged = [name for name in JUDGED_TENSORS if any(row[name] is not None for row in rows)]
    return Table(
        title="Error over budget",
        columns=[
            column("implementation"),
            column("status", is_status=True),
            *(column(name, unit="ratio") for name in judged),
            column("command", "repro", is_code=True),
            column("reason"),
        ],
        rows=rows,
    )


def _implementations(facts: Mapping[str, Any], errors: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    wrong = [one for one in facts["implementations"] if one["status"] == "wrong"]
    blocks: list[Block] = [
        Contradiction(text=f"{one['implementation']} disagrees: {one['reason']}." + _cause(one)) for one in wrong
    ]
    blocks.append(_error_table(facts))
    number_of = {one["implementation"]: i for i, one in enumerate(facts["implementations"], start=1)}
    # If all agree, the maps of one implementation show the size of rounding errors; else only wrong ones are shown.
    for one in wrong or facts["implementations"][:1]:
        name = one["implementation"]
        for tensor, planes in errors.get(name, {}).items():
            blocks += _error_maps(
                name, tensor, planes, one["rms"].get(tensor), f"error-{number_of[name]}-{tensor}", facts["case"]
            )
    return blocks


def _cause(one: Mapping[str, Any]) -> str:
    return f" A guess at the cause: {one['cause']}." if one.get("cause") else ""


def _error_maps(
    name: str, tensor: str, planes: Any, rms: float | None, stem: str, case: Mapping[str, Any]
) -> list[Block]:
    down, noun = ("keys", "key") if tensor in ("dk", "dv") else ("queries", "query")
    size = case["seqlen_kv" if noun == "key" else "seqlen_q"]
    found: list[Block] = []
    for head, plane in enumerate(planes):
        row, column = np.unravel_index(int(np.nan_to_num(plane, posinf=np.inf).argmax()), plane.shape)
        relative = f", {number(float(plane.max()) / rms)} of the tensor's RMS" if rms else ""
        said = f"largest error {number(float(plane.max()))}{relative}, in field ({row}, {column})"
        found.append(
            Picture(
                stem=f"{stem}-{head}",
                title=f"{name}, {tensor}, head {head}: {said}",
                alt=f"Absolute error of {tensor} of {name} in head {head}, {down} down and features across: {said}.",
                svg=matrix(plane, Axis(title=noun, size=size), Axis(title="feature", size=plane.shape[1]), alarm=True),
                table=_rows_table(plane, "mean of the errors", 1),
            )
        )
    return found


def _case_table(facts: Mapping[str, Any]) -> Table:
    shown_facts = {
        "case": facts["case_id"],
        "batch element": facts["batch_index"],
        "device": facts["device"],
        **{name: value for name, value in facts["case"].items() if value is not None},
    }
    rows: list[Row] = [{"field": name, "value": value} for name, value in shown_facts.items()]
    return Table(columns=[column("field"), column("value")], rows=rows)
