"""The provenance of the numbers: the run's header as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import ABSENT, number, size, times
from attnbench.views import columns
from attnbench.views.compare import VOLATILE
from attnbench.views.document import Paragraph, Table, column
from attnbench.views.report.blocks import Block, Details, Section, named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attnbench.store.header import Header, Part
    from attnbench.store.reader import RunFile
    from attnbench.views.cells import CellResult
    from attnbench.views.report.blocks import ReportedRun
    from attnbench.views.report.material import Material


def section(material: Material) -> Section:
    """Return the headers of the runs, and the differences between them."""
    blocks = _differences(material.sources)
    for source in material.sources:
        blocks += named(source)
        for title, part in _tables(source.run, source.cells):
            blocks += [Details(summary=title, blocks=[part])] if title else [part]
    return Section(anchor="provenance", title="Provenance", blocks=blocks)


def _tables(run: RunFile, cells: Sequence[CellResult]) -> list[tuple[str, Table]]:
    """Return titled tables; the title of the first, about the run itself, is empty."""
    header = run.header
    asked: dict[str, object] = {
        "run": header.run_id,
        "file": run.path,
        "created": header.created_at,
        "scenario": header.scenario_name,
        "source of the shapes": header.scenario.get("source"),
        "command": header.command_line,
        "attnbench": header.attnbench_version,
        "machine key": header.machine_key,
        "devices": list(header.devices),
        "threads": header.threads,
        "processes for each cell": header.replicates,
        "seed": header.seed,
        "records": f"{len(run.records):,} of {header.cells_planned:,} planned",
        "wall time": f"{number(sum(footer.wall_s for footer in run.footers))} s" if run.footers else None,
    }
    tables = [("", facts_table(asked))]
    measured_by = {
        f"shard {part.shard}" if part.shard else f"part {number}": _measured_on(part)
        for number, part in enumerate(header.parts, start=1)
    }
    for title, facts in (
        ("Measured by", measured_by),
        ("Machine and software", header.environment),
        ("Libraries", header.libraries),
        ("Measured peaks", header.peaks),
        ("Scenario", {name: value for name, value in header.scenario.items() if value}),
    ):
        if facts:
            tables.append((title, facts_table(facts)))
    return [*tables, ("Implementations", _implementations(run, cells))]


def _measured_on(part: Part) -> str:
    """Describe the machine and the time at which a shard of a merged run was measured."""
    here = part.environment
    host, processor = (here.get(name) or "unknown" for name in ("host", "cpu_model"))
    said = [f"run {part.run_id}, {part.created_at}, host {host}, processor {processor}"]
    said += [f"at {part.place}"] if part.place else []
    said += [f"one cell took {times(part.aa_ratio)} of its own time in another process"] if part.aa_ratio else []
    said += [f"the engine kept {number(part.engine_cores, 2)} cores busy"] if part.engine_cores is not None else []
    return "; ".join(said)


def _differences(sources: Sequence[ReportedRun]) -> list[Block]:
    """Compare the environments of several runs: a row for each differing fact, a column for each run."""
    if len(sources) < 2:
        return []
    facts = {source.name: dict(_flat(_comparable(source.run.header))) for source in sources}
    names = list(dict.fromkeys(name for found in facts.values() for name in found))
    rows = [
        {"fact": name, **{run: found.get(name, ABSENT) for run, found in facts.items()}}
        for name in names
        if len({found.get(name, ABSENT) for found in facts.values()}) > 1
    ]
    if not rows:
        return [Paragraph(text="The environments of the runs are equal.")]
    return [Table(columns=[column("fact"), *map(column, facts)], rows=rows, title="What differs between the runs")]


def _comparable(header: Header) -> dict[str, object]:
    """Return facts that two runs should share, without those that always change."""
    environment = {name: value for name, value in header.environment.items() if name not in VOLATILE}
    sources = {name: said.get("source_hash") for name, said in header.implementations.items()}
    return {
        "attnbench": header.attnbench_version,
        "machine key": header.machine_key,
        "threads": header.threads,
        "processes for each cell": header.replicates,
        "seed": header.seed,
        "environment": environment,
        "libraries": header.libraries,
        "source": sources,
    }


def facts_table(facts: Mapping[str, object]) -> Table:
    """Return a table with a row for each fact; nested facts have dotted names."""
    rows = [{"fact": name, "value": value} for name, value in _flat(facts)]
    return Table(columns=[column("fact"), column("value")], rows=rows)


def _flat(facts: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts with dotted names; absent values are a dash."""
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                yield from _flat(item if isinstance(item, dict) else {"": item}, f"{prefix}{name}.{index}.")
        else:
            yield f"{prefix}{name}", _text(name, value)


def _text(name: str, value: object) -> str:
    if value is None or value in ([], {}, ""):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_bytes"):
        return f"{size(value)} ({value:,} bytes)"
    if isinstance(value, float):
        return number(value, 4)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _implementations(run: RunFile, cells: Sequence[CellResult]) -> Table:
    ran: dict[str, list[str]] = {}
    for cell in cells:
        backends = ran.setdefault(cell.implementation, [])
        if cell.metrics.backend and cell.metrics.backend not in backends:
            backends.append(cell.metrics.backend)
    rows = []
    for name, found in sorted(run.header.implementations.items()):
        said = found.get("declaration") or {}
        rows.append(
            {
                "implementation": name,
                "version": found.get("version"),
                "source": found.get("source_hash"),
                "framework": said.get("framework"),
                "layout": said.get("layout"),
                "claims memory": said.get("memory"),
                "what ran": "; ".join(ran.get(name, [])) or None,
            }
        )
    titles = ("version", "source", "framework", "layout", "claims memory", "what ran")
    return Table(columns=[columns.IMPLEMENTATION, *map(column, titles)], rows=rows)
