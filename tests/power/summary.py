"""What the lines of ``gates.jsonl`` say together, as a Markdown page."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Line = dict[str, Any]

ENOUGH = 40
"""Gates of each kind from which on a rate means something."""
EXPECTED = {
    "5 % slower": ("time", {"slower"}),
    "10 % slower": ("time", {"slower"}),
    "20 % slower": ("time", {"slower"}),
    "1 MiB more": ("memory", {"bigger"}),
    "returns early": ("outcome", {"wrong"}),
    "wrong": ("outcome", {"wrong"}),
    "lost dtype": ("outcome", {"lost"}),
}
"""By fault: the metric on which it must be found, and as what."""
CHANGED = {"slower", "faster", "bigger", "smaller", "wrong", "lost", "gained", "invalid"}


def summary(lines: Sequence[Line]) -> str:
    """The tables of docs/gate-power.md."""
    unchanged = [line for line in lines if line["kind"] == "unchanged"]
    faults = [line for line in lines if line["kind"] == "faults"]
    machines = len({line["machine_key"] for line in lines})
    faults_titles = ["fault", "found", "called ambiguous", "called same", "same, though said to be detectable"]
    return f"""# What the gate gets wrong on a real machine

Made by `make gate-power` from `results/gate-power/gates.jsonl`; `make gate-power GATES=20` adds twenty.

{len(unchanged)} gates of unchanged code and {len(faults)} with known faults, on {machines} machine(s), {_span(lines)}.
A fault is in one cell; real code runs longer, no number is edited (`tests/power/power_kernels.py`).
{_warning(len(unchanged), len(faults))}
## Unchanged code

{_table(["", ""], _unchanged(unchanged))}

## Known faults

{_table(faults_titles, _faults(faults))}

## Other rules on the same samples

Cells of unchanged code that are called slower, and slow-downs that are found. Each rule gets the processes that its
tool would start: one on each side, asv two.

{_table(["rule", "unchanged cells called slower", "5 %", "10 %", "20 %"], _rules(lines))}
"""


def _warning(unchanged: int, faults: int) -> str:
    if min(unchanged, faults) >= ENOUGH:
        return ""
    return f"\n**These are too few for error rates**: the aim is {ENOUGH} of each kind.\n"


def _span(lines: Sequence[Line]) -> str:
    days = sorted({line["at"][:10] for line in lines})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _unchanged(lines: Sequence[Line]) -> list[list[str]]:
    every = [one for line in lines for one in [*line["common"], *line["verdicts"]]]
    alarms = [line for line in lines if any(one["verdict"] in CHANGED for one in [*line["common"], *line["verdicts"]])]
    times = [one for one in every if one["metric"] == "time"]
    vague = sum(one["verdict"] == "ambiguous" for one in times)
    smallest = [one["detectable"] for one in times if one["detectable"] is not None]
    noise = [one["noise_sd"] for one in times if one["noise_sd"] is not None]
    return [
        ["gates with any alarm", f"{len(alarms)} of {len(lines)}: {_bound(len(alarms), len(lines))}"],
        ["times called ambiguous", f"{vague} of {len(times)}"],
        ["sd of one pair of processes, middle cell", _percent(noise)],
        ["smallest detectable slow-down, middle cell", _percent(smallest)],
        ["wall time without a second stage", _seconds(line["wall_s"] for line in lines if not line["confirmed"])],
        ["wall time with one", _seconds(line["wall_s"] for line in lines if line["confirmed"])],
    ]


def _bound(count: int, total: int) -> str:
    """What so few gates prove (Clopper and Pearson, one-sided)."""
    if not total:
        return "nothing is known"
    highest = stats.binomtest(count, total, alternative="less").proportion_ci(0.95).high
    return f"the rate is at most {100 * highest:.0f} %, with 95 % confidence"


def _faults(lines: Sequence[Line]) -> list[list[str]]:
    rows = []
    for fault, (metric, expected) in EXPECTED.items():
        found, vague, same, claimed = 0, 0, 0, 0
        for line in lines:
            cells = {(o["case_id"], o["implementation"]) for o in line["others"] if o["fault"] == fault}
            size = float(fault.split()[0]) / 100 if fault.endswith("slower") else 0.0
            said = [
                v for v in line["verdicts"] if (v["case_id"], v["implementation"]) in cells and v["metric"] == metric
            ]
            found += any(v["verdict"] in expected for v in said)
            vague += any(v["verdict"] == "ambiguous" for v in said)
            same += any(v["verdict"] == "same" for v in said)
            claimed += any(v["verdict"] == "same" and (v["detectable"] or 1.0) < size for v in said)
        rows.append([fault, f"{found} of {len(lines)}", str(vague), str(same), str(claimed)])
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
    return f"{sum(said)} of {len(said)}"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.median(values):.1f} %" if values else "none"


def _seconds(values: Iterable[float]) -> str:
    known = sorted(values)
    return f"{statistics.median(known):.0f} s (of {len(known)})" if known else "none"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [titles, ["---"] * len(titles), *rows])
