"""Flame graphs and traces have every stack, as wide as its time, and escape names."""

from __future__ import annotations

import collections
import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from attnbench.profiling.parts import Span, Stack
from attnbench.profiling.phases import TITLES, Phase
from attnbench.store.profile import CellProfile
from attnbench.views.profile.flame import LETTER, ROW, WIDTH, flame_svg, folded, tree
from attnbench.views.profile.trace import trace_json
from tests.views.profile.conftest import FLASH, cell, failed

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "]]><script>alert(1)</script>\x1b[2J\" onload='x' &amp; \ufffe\ud83d; a b"


def boxes(svg: str) -> list[tuple[str, float, float, int]]:
    """Return name, left end, width and row of each frame."""
    found = []
    for group in ET.fromstring(svg).iter(f"{SVG}g"):  # noqa: S314 - drawn a moment ago
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        x, y, width = (float(rect.attrib[name]) for name in ("x", "y", "width"))
        found.append((group.attrib["data-name"], x, width, int(y // ROW)))
    return found


def deep(names: tuple[str, ...]) -> CellProfile:
    return cell("a/a", FLASH, stacks=(Stack(thread="main thread", phase=Phase.QK, frames=names, ns=1e6),))


def test_folded_stacks_read_back() -> None:
    one = cell("numba/flash", FLASH)
    read: collections.Counter[tuple[str, ...]] = collections.Counter()
    for line in folded(one).splitlines():
        path, ns = line.rsplit(" ", 1)
        read[tuple(path.split(";"))] += int(ns)
    assert read == {(stack.thread, *stack.frames, f"[{TITLES[stack.phase]}]"): round(stack.ns) for stack in one.stacks}
    assert sum(read.values()) == round(sum(FLASH.values()))


def test_a_frame_with_a_semicolon_stays_one_frame() -> None:
    assert folded(deep(("f(a; b)", "line\nbreak"))) == "main thread;f(a, b);line\\nbreak;[Q K^T] 1000000\n"


def test_widths_add_up() -> None:
    found = boxes(flame_svg(cell("numba/flash", FLASH)))
    assert found[0] == ("numba/flash", 0.0, WIDTH, 1)
    by_row: collections.Counter[int] = collections.Counter()
    for _, x, width, row in found:
        by_row[row] += width  # type: ignore[assignment]
        parents = [(px, pw) for _, px, pw, prow in found if prow == row - 1]
        assert row == 1 or any(px - 0.02 <= x and x + width <= px + pw + 0.02 for px, pw in parents)
        siblings = sorted((left, wide) for _, left, wide, at in found if at == row)
        ends = [left + wide for left, wide in siblings]
        assert [left for left, _ in siblings] == pytest.approx([0.0, *ends[:-1]], abs=0.05)
    assert list(by_row.values()) == pytest.approx([WIDTH] * len(by_row), abs=0.1)
    assert len(by_row) == 6  # the call, thread, three frames, phase


def test_equal_callers_share_a_frame() -> None:
    root = tree(cell("numba/flash", FLASH))
    assert set(root.callees) == {"main thread", "other threads"}
    assert list(root.callees["main thread"].callees) == ["call.py:3"]
    assert root.by_phase[Phase.PV] == max(root.by_phase.values()) == pytest.approx(FLASH[Phase.PV])


def test_names_fit_their_boxes() -> None:
    drawn = ET.fromstring(flame_svg(deep(("f" * 400, "g"))))  # noqa: S314
    texts = [group.findtext(f"{SVG}text") or "" for group in drawn.iter(f"{SVG}g")]
    assert all(len(text) * LETTER <= WIDTH for text in texts)
    assert [text[-1] for text in texts if text.startswith("f")] == ["…"]


def test_no_name_acts() -> None:
    svg = flame_svg(cell(HOSTILE, FLASH, label=HOSTILE, stacks=deep((HOSTILE, HOSTILE)).stacks))
    root = ET.fromstring(svg)  # noqa: S314
    assert len(list(root.iter(f"{SVG}script"))) == 1
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
    assert "\x1b" not in svg
    assert "alert(1)" in "".join(root.itertext())  # it is shown
    assert "\x1b" not in folded(deep((HOSTILE,)))
    assert json.loads(trace_json(cell(HOSTILE, FLASH)))["traceEvents"][0]["args"]["name"].startswith(HOSTILE[:3])


def test_a_cell_without_stacks_has_an_empty_graph() -> None:
    assert boxes(flame_svg(failed("bad/crash"))) == []
    assert folded(failed("bad/crash")) == ""


def test_the_trace_has_every_span_in_order() -> None:
    one = cell("numba/flash", FLASH)
    trace: dict[str, Any] = json.loads(trace_json(one))
    events = trace["traceEvents"]
    complete = [event for event in events if event["ph"] == "X"]
    assert len(complete) == len(one.timeline)
    assert [event["ts"] for event in events if "ts" in event] == sorted(
        event["ts"] for event in events if "ts" in event
    )
    assert all(event["dur"] >= 0 and event["pid"] == 1 for event in complete)
    lanes = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(lanes.values()) == [
        "stages", "harness", "calls", "operators", "lines of Python", "main thread", "thread 41",
    ]  # fmt: skip
    assert {lanes[event["tid"]] for event in complete} == set(lanes.values())
    [call] = [event for event in complete if event["name"] == "call 1"]
    assert (call["ts"], call["dur"]) == (0.0, 10_000.0)
    assert "Q K^T" in {event["name"] for event in complete}
    assert one.memory is not None
    counters = [event["args"]["bytes"] for event in events if event["ph"] == "C"]
    assert counters == [point.bytes for point in one.memory.points]
    assert next(event["ts"] for event in events if event["ph"] == "C") == 1000.0
    assert {event["name"]: event["cat"] for event in complete} == {
        "profile": "harness", "traced calls": "harness", "call 1": "call", "aten::bmm": "operator",
        "call.py:3": "call", "Q K^T": "phase", "P V": "phase",
    }  # fmt: skip


def test_a_trace_without_operators_says_why_beside_its_process() -> None:
    said = "no operators: they are torch's, and this implementation is numpy's"
    events = json.loads(trace_json(cell("a/a", FLASH, no_operators=said)))["traceEvents"]
    assert [event["args"] for event in events if event["name"] == "process_labels"] == [{"labels": said}]


def test_a_span_that_ends_before_it_begins_has_no_duration() -> None:
    one = cell("a/a", FLASH, timeline=(Span(lane="calls", name="call 1", start_ns=5, end_ns=3),), memory=None)
    assert [event["dur"] for event in json.loads(trace_json(one))["traceEvents"] if event["ph"] == "X"] == [0.0]
