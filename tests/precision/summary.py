"""Summarises repeated runs: the scatter of figures per second of time, and the coverage of intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

BASELINE = "unfused"
"""The callable to which all ratios are relative."""

ABOUT = """\
`make precision`, on {machine}. Each tool times the same three callables (attention of 512 tokens and 8 heads in
float32: one operator of torch, three of them, and NumPy) with its own defaults, in fresh processes, the tools in a
random order in each repeat; the raw figures are in `results/precision/`. The scatter is the standard deviation of
the reported medians between runs, as a share. Times the root of a run's wall time, it tells what a second buys: two
tools are equal where one takes four times as long and scatters half as much. attnbench's own time includes
checking, and without `time only` the memory of each callable."""

Line = dict[str, Any]


PAIRS_ABOUT = """\
`make aa`: one kernel (the operator of torch) under four names, over 64 to 1024 tokens, at default settings. Each two
names are an A/A pair: of 20, intervals of 95 % may call one different. The raw figures are in
`results/precision/pairs.jsonl`."""


def page(lines: Sequence[Line], of_pairs: Sequence[Line], machine: str) -> str:
    """Return the page as Markdown."""
    tables = [ABOUT.format(machine=machine), "", *precision(lines), "", *coverage(lines), ""]
    return "\n".join(["# Precision", "", *tables, *([PAIRS_ABOUT, "", *pairs(of_pairs), ""] if of_pairs else [])])


def precision(lines: Sequence[Line]) -> Iterator[str]:
    """Yield a table of tools: wall time, scatter of each callable's figure, and both combined."""
    yield "| tool | repeats | wall time of a run | scatter of figures | scatter × √(wall time / 1 s) |"
    yield "|---|---|---|---|---|"
    for tool in dict.fromkeys(line["tool"] for line in lines):
        its = [line for line in lines if line["tool"] == tool and not line["busy"]]
        if len(its) < 3:
            continue
        wall_s = statistics.median(line["wall_s"] for line in its)
        scatters = {name: scatter([line["ns"][name] for line in its]) for name in its[0]["ns"]}
        shown = ", ".join(f"{name} {100 * one:.1f} %" for name, one in scatters.items())
        overall = math.sqrt(statistics.fmean(one**2 for one in scatters.values()))
        yield f"| {tool} | {len(its)} | {wall_s:.1f} s | {shown} | {100 * overall * math.sqrt(wall_s):.1f} % |"


def scatter(values: Sequence[float]) -> float:
    """Return the standard deviation of the logarithms, which is the relative scatter."""
    return statistics.stdev(map(math.log, values))


def coverage(lines: Sequence[Line]) -> Iterator[str]:
    """Yield a table of the shares of intervals that contain the figure of the next run, and of any other run."""
    yield "| attnbench | intervals | half-width, median | hold the next run's figure | hold another run's |"
    yield "|---|---|---|---|---|"
    for busy, where in ((False, "alone"), (True, "beside a busy core")):
        its = [line for line in lines if line["tool"] == "attnbench" and line["busy"] == busy]
        if len(its) < 3:
            continue
        names = list(its[0]["ns"])
        times = [[(line["ns"][name], *line["intervals"][name]) for line in its] for name in names]
        ratios = [[tuple(line["ratios"][name]) for line in its] for name in names if name != BASELINE]
        for kind, series in (("times", times), ("ratios", ratios)):
            known = [[one for one in one_series if one[1] is not None] for one_series in series]
            count = sum(map(len, known))
            reach = statistics.median(math.sqrt(high / low) - 1 for one in known for _, low, high in one)
            following = [low <= after[0] <= high for one in known for (_, low, high), after in pairwise(one)]
            others = [
                low <= other[0] <= high
                for one in known
                for place, (_, low, high) in enumerate(one)
                for number, other in enumerate(one)
                if number != place
            ]
            yield (
                f"| {kind}, {where} | {count} | ±{100 * reach:.1f} % | {100 * statistics.fmean(following):.0f} % | "
                f"{100 * statistics.fmean(others):.0f} % |"
            )


def pairs(lines: Sequence[Line]) -> Iterator[str]:
    """Yield a table of the A/A pairs that were called different."""
    yield "| A/A pairs | runs | pairs | called different | half-width of a ratio, median |"
    yield "|---|---|---|---|---|"
    for busy, where in ((False, "alone"), (True, "beside a busy core")):
        its = [line for line in lines if line["busy"] == busy]
        seen = [pair for line in its for pair in line["pairs"]]
        if not seen:
            continue
        unlike = sum(pair["difference"] != "within noise" for pair in seen)
        known = [(low, high) for _, low, high in (pair["ratio"] for pair in seen) if low is not None]
        reach = statistics.median(math.sqrt(high / low) - 1 for low, high in known)
        yield f"| {where} | {len(its)} | {len(seen)} | {unlike} | ±{100 * reach:.1f} % |"
