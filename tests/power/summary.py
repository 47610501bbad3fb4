"""Summarise ``gates.jsonl`` as a Markdown page."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Line = dict[str, Any]

ENOUGH = {"unchanged": 40, "faults": 20}
"""Number of gates of each kind from which a rate is meaningful."""
EXPECTED = {
    "5 % slower": ("time", {"slower"}),
    "10 % slower": ("time", {"slower"}),
    "20 % slower": ("time", {"slower"}),
    "1 MiB more": ("memory", {"bigger"}),
    "returns early": ("outcome", {"wrong"}),
    "wrong": ("outcome", {"wrong"}),
    "lost dtype": ("outcome", {"lost"}),
}
"""The metric on which each fault must be found, and the verdict."""
CHANGED = {"slower", "faster", "bigger", "smaller", "wrong", "lost", "gained", "invalid"}


def summary(lines: Sequence[Line]) -> str:
    """Return the tables of docs/gate-power.md."""
    unchanged = [line for line in lines if line["kind"] == "unchanged"]
    faults = [line for line in lines if line["kind"] == "faults"]
    machines = len({line["machine_key"] for line in lines})
    faults_titles = ["fault", "found", "called ambiguous", "called same", "same, though said to be detectable"]
    return f"""# What the gate gets wrong on a real machine

Made by `make gate-power` from `results/gate-power/gates.jsonl`; `make gate-power GATES=30` adds thirty.

{len(unchanged)} gates of unchanged code and {len(faults)} with known faults, on {machines} machine(s), {_span(lines)}.
A fault gate has eight slowed cells and four with other faults; real code runs longer, no number is edited
(`tests/power/power_kernels.py`). Its other cells are unchanged.
{_warning(len(unchanged), len(faults))}
## Unchanged code

{_table(["", ""], _unchanged(unchanged, faults))}

## Known faults

Each cell of each fault gate is a trial.

{_table(faults_titles, _faults(faults))}

What the slowed cells took, where the spinning is a share of what the call itself takes:

{_table(["nominal", "middle of the measured changes", "middle 90 % of them"], _accuracy(faults))}

## Other rules on the same samples

Cells of unchanged code that are called slower, and slow-downs that are found. Each rule gets the processes that its
tool would start: one on each side, asv two. They get the gate's samples, taken in turns; those that the tool itself
takes, one side after the other, are noisier.

{_table(["rule", "unchanged cells called slower", "5 %", "10 %", "20 %"], _rules(lines))}
"""


def _warning(unchanged: int, faults: int) -> str:
    if unchanged >= ENOUGH["unchanged"] and faults >= ENOUGH["faults"]:
        return ""
    return (
        "\n**These are too few for error rates**: the aim is "
        f"{ENOUGH['unchanged']} of unchanged code and {ENOUGH['faults']} with faults.\n"
    )


def _span(lines: Sequence[Line]) -> str:
    days = sorted({line["at"][:10] for line in lines})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _unchanged(lines: Sequence[Line], faults: Sequence[Line]) -> list[list[str]]:
    every = [one for line in lines for one in [*line["common"], *line["verdicts"]]]
    alarms = [line for line in lines if any(one["verdict"] in CHANGED for one in [*line["common"], *line["verdicts"]])]
    beside = [
        one for line in faults for one in line["verdicts"] if _fault_of(line, one) is None and one["metric"] == "time"
    ]
    beside_alarms = sum(one["verdict"] in CHANGED for one in beside)
    times = [one for one in every if one["metric"] == "time"]
    vague = sum(one["verdict"] == "ambiguous" for one in times)
    vague_gates = sum(
        any(one["verdict"] == "ambiguous" for one in [*line["common"], *line["verdicts"]]) for line in lines
    )
    smallest = [one["detectable"] for one in times if one["detectable"] is not None]
    noise = [one["noise_sd"] for one in times if one["noise_sd"] is not None]
    return [
        ["gates with any alarm", f"{len(alarms)} of {len(lines)}: {_bound(len(alarms), len(lines))}"],
        ["unchanged cells of fault gates with an alarm on time", _share_of(beside_alarms, len(beside))],
        ["times called ambiguous", f"{vague} of {len(times)}, in {vague_gates} of {len(lines)} gates"],
        ["sd of one pair of processes, middle cell", _percent(noise)],
        ["smallest detectable slow-down, middle cell", _percent(smallest)],
        ["wall time without a second stage", _seconds(line["wall_s"] for line in lines if not line["confirmed"])],
        ["wall time with one", _seconds(line["wall_s"] for line in [*lines, *faults] if line["confirmed"])],
        ["load of the machine when a gate began", _load([*lines, *faults])],
    ]


def _bound(count: int, total: int) -> str:
    """Return the upper bound of a rate that ``total`` gates prove (Clopper and Pearson, one-sided)."""
    if not total:
        return "nothing is known"
    highest = stats.binomtest(count, total, alternative="less").proportion_ci(0.95).high
    return f"the rate is at most {100 * highest:.0f} %, with 95 % confidence"


def _fault_of(line: Line, verdict: dict[str, Any]) -> str | None:
    """Return the fault in a verdict's cell, or ``None``."""
    key = (verdict["case_id"], verdict["implementation"])
    return next((o["fault"] for o in line["others"] if (o["case_id"], o["implementation"]) == key), None)


def _of_fault(lines: Sequence[Line], fault: str) -> list[list[dict[str, Any]]]:
    """Return the verdicts of each trial: of a cell with the fault in one gate."""
    return [
        [v for v in line["verdicts"] if (v["case_id"], v["implementation"]) == (o["case_id"], o["implementation"])]
        for line in lines
        for o in line["others"]
        if o["fault"] == fault
    ]


def _faults(lines: Sequence[Line]) -> list[list[str]]:
    rows = []
    for fault, (metric, expected) in EXPECTED.items():
        trials = [[one for one in said if one["metric"] == metric] for said in _of_fault(lines, fault)]
        found = sum(any(one["verdict"] in expected for one in said) for said in trials)
        vague = sum(any(one["verdict"] == "ambiguous" for one in said) for said in trials)
        same = [one for said in trials for one in said if one["verdict"] == "same"]
        claimed = sum((one["detectable"] or 1.0) < _size(fault) for one in same)
        rows.append([fault, _share_of(found, len(trials)), str(vague), str(len(same)), str(claimed)])
    return rows


def _size(fault: str) -> float:
    return float(fault.split(maxsplit=1)[0]) / 100 if fault.endswith("slower") else 0.0


def _accuracy(lines: Sequence[Line]) -> list[list[str]]:
    rows = []
    for fault in (fault for fault in EXPECTED if _size(fault)):
        ratios = [one["ratio"] for said in _of_fault(lines, fault) for one in said if one["metric"] == "time"]
        changes = sorted(ratio - 1 for ratio in ratios if ratio is not None)
        if not changes:
            rows.append([fault, "none", "none"])
            continue
        left = math.floor(0.05 * len(changes))
        low, high = changes[left], changes[-1 - left]
        rows.append([fault, _percent(changes), f"{100 * low:.1f} % to {100 * high:.1f} %"])
    return rows


def _rules(lines: Sequence[Line]) -> list[list[str]]:
    cells = [(line, other) for line in lines for other in line["others"] if other["slower"] is not None]
    rules = list(cells[0][1]["slower"]) if cells else []
    healthy = [(line, o) for line, o in cells if line["kind"] == "unchanged" or o["fault"] is None]
    rows = []
    for rule in ["attnbench gate", *rules]:

        def is_slower(line: Line, other: Line, rule: str = rule) -> bool:
            return _gate_says(line, other) if rule == "attnbench gate" else bool(other["slower"][rule])

        slow = [
            _share([is_slower(line, o) for line, o in cells if line["kind"] == "faults" and o["fault"] == fault])
            for fault in ("5 % slower", "10 % slower", "20 % slower")
        ]
        rows.append([rule, _share([is_slower(line, o) for line, o in healthy]), *slow])
    return rows


def _gate_says(line: Line, other: Line) -> bool:
    key = (other["case_id"], other["implementation"])
    return any((v["case_id"], v["implementation"]) == key and v["verdict"] == "slower" for v in line["verdicts"])


def _share(said: Sequence[bool]) -> str:
    return _share_of(sum(said), len(said))


def _share_of(count: int, total: int) -> str:
    return f"{count} of {total}"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.median(values):.1f} %" if values else "none"


def _seconds(values: Iterable[float]) -> str:
    known = sorted(values)
    return f"{statistics.median(known):.0f} s, at most {known[-1]:.0f} s (of {len(known)})" if known else "none"


def _load(lines: Sequence[Line]) -> str:
    loads = [line["load_average"][0] for line in lines if line["load_average"]]
    return f"{min(loads):.1f} to {max(loads):.1f}" if loads else "unknown"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [titles, ["---"] * len(titles), *rows])
