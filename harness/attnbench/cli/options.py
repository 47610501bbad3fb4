"""Options that several commands share, each declared once: its names, its type and its line in ``--help``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

SomeScenario = Annotated[str, Parameter(help="name of a bundled scenario, or path of a .toml file.")]
Scenario = SomeScenario | None
RunPath = Annotated[str, Parameter(allow_leading_hyphen=True)]  # "-" is standard input

Include = Annotated[
    list[str] | None,
    Parameter(
        name=["--include", "--implementation", "-i"],
        negative="",
        help="implementations: a whole name, or a regular expression that is searched in names; repeatable.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    Parameter(name=["--exclude", "-x"], negative="", help="implementations to leave out, as for -i; repeatable."),
]
Axes = Annotated[
    list[str] | None,
    Parameter(
        name=["--axis", "-a"],
        negative="",
        help="NAME=VALUE[,VALUE...] in place of the scenario's values, such as seqlen=128,1k,4k; repeatable.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    Parameter(
        name=["--plugin", "-p"],
        negative="",
        help="a file with implementations of your own, FILE.py or FILE.py:family/variant; repeatable.",
    ),
]
Devices = Annotated[list[str] | None, Parameter(name=["--device", "-d"], negative="", help="cpu or cuda; repeatable.")]
Threads = Annotated[int | None, Parameter(help="threads of each worker on the CPU; default: one for each core.")]
GateThreads = Annotated[
    int | None,
    Parameter(
        help="threads of each worker on the CPU; default one less than there are cores, for the rest of the machine."
    ),
]
Ranks = Annotated[
    list[int] | None,
    Parameter(negative="", help="processes among which ring/torch and its like share a call's tokens; repeatable."),
]
Seed = Annotated[int | None, Parameter(help="of the values and of the order of cells.")]
RunOut = Annotated[Path | None, Parameter(help="path of the run file; default results/runs/UTC-TIME-SCENARIO.jsonl.")]
Switch = Annotated[bool, Parameter(negative="")]
Verbose = Annotated[bool, Parameter(name=["--verbose", "-v"], negative="")]
Watch = Annotated[
    bool, Parameter(negative="", help="run again when a plug-in's file, or what it imports, changes; Ctrl-C ends.")
]
Force = Annotated[bool, Parameter(negative="", help="replace what is there already.")]
DryRun = Annotated[bool, Parameter(negative="", help="list the cells with an estimate, and run nothing.")]
Baseline = Annotated[
    str | None,
    Parameter(
        help="implementation that speed-ups are relative to; default the scenario's, or where it was not run the one "
        "that was timed most often, a plug-in's only for want of others."
    ),
]
Across = Annotated[
    Literal["machines"] | None,
    Parameter(
        help="machines: compare kinds of machines with each other: which of them, and which implementation, for each "
        "case."
    ),
]
Form = Literal["terminal", "markdown", "csv", "json"]
Format = Annotated[Form, Parameter(name=["--format", "-f"], help="terminal, markdown, csv or json.")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="print JSON.")]


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Options that choose implementations and cases."""

    include: Include = None
    exclude: Exclude = None
    axis: Axes = None
    plugin: Plugins = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells(Selection):
    """Options that choose cells: also where they run."""

    device: Devices = None
    threads: Threads = None


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class GateCells(Cells):
    """The same of commands that compare revisions."""

    threads: GateThreads = None
