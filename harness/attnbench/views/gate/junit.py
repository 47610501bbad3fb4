"""JUnit XML: a suite for each implementation, a test case for each verdict; unmeasured cells are skipped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from attnbench.gate.verdict import UNDECIDED
from attnbench.grouping import grouped

if TYPE_CHECKING:
    from attnbench.gate.verdict import GateResult, Verdict

_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def junit(result: GateResult) -> str:
    """Return the result in the dialect of CI systems: testsuites, testsuite, testcase, failure, error, skipped."""
    by_implementation = grouped(result.all_verdicts, lambda one: one.implementation or "all cells")
    root = ET.Element("testsuites", name="attnbench gate", time=f"{result.wall_s:.1f}")
    for name, verdicts in by_implementation.items():
        suite = ET.SubElement(root, "testsuite", name=_text(name), tests=str(len(verdicts)))
        kinds = [_case(suite, one) for one in verdicts]
        for kind in ("failure", "error", "skipped"):
            suite.set({"failure": "failures", "error": "errors"}.get(kind, kind), str(kinds.count(kind)))
    if result.problems:
        number = str(len(result.problems))
        suite = ET.SubElement(root, "testsuite", name="gate", tests=number, failures=number)
        for index, problem in enumerate(result.problems, start=1):
            case = ET.SubElement(suite, "testcase", classname="attnbench.gate", name=f"waivers {index}")
            ET.SubElement(case, "failure", message=_text(problem))
    for kind in ("tests", "failures", "errors", "skipped"):
        root.set(kind, str(sum(int(suite.get(kind, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, one: Verdict) -> str | None:
    """Add a test case, and return ``failure``, ``error`` or ``skipped``, or ``None`` if it passes."""
    classname = f"attnbench.{(one.implementation or 'all').replace('/', '.')}"
    case = ET.SubElement(suite, "testcase", classname=_text(classname), name=_text(f"{one.metric}: {one.label}"))
    kind = None
    if one.regressed:
        kind = "failure"
    elif one.verdict == "not_measured":
        kind = "error" if one.failed else "skipped"
    elif one.verdict in UNDECIDED:
        kind = "skipped"
    if kind is not None:
        found = ET.SubElement(case, kind, message=_text(f"{one.verdict.replace('_', ' ')}: {one.sentence}"))
        found.text = _text(one.repro or "")
    else:
        ET.SubElement(case, "system-out").text = _text(one.sentence)
    return kind


def _text(text: str) -> str:
    """Remove characters that XML cannot represent, such as those of a traceback's colours."""
    return _NOT_XML.sub("", text)
