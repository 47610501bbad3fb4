"""Proton's tree of scopes and kernels, in the format of its test data, and a session with a stand-in."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbench.worker.cuda.proton_scopes import CALLS, scopes_of, scopes_of_calls


def node(name: str, *children: dict[str, Any], **metrics: Any) -> dict[str, Any]:
    """Return a node of the tree; a scope has no metrics."""
    return {"frame": {"name": name, "type": "function"}, "children": list(children), "metrics": metrics}


def kernel(name: str, count: int, ns: int) -> dict[str, Any]:
    """Return the node of a kernel with its launches."""
    return node(name, **{"count": count, "time (ns)": ns, "device_id": "0", "device_type": "CUDA"})


TREE = [
    node("ROOT", node("decode", kernel("partial", 10, 50_000), node("join", kernel("merge", 20, 8_000))),
         kernel("deltas", 10, 1_000), **{"count": 0, "time (ns)": 0}),
    {"CUDA": {"0": {"arch": "90", "num_sms": 132}}},
]  # fmt: skip


def test_a_scope_has_the_time_of_all_that_is_in_it() -> None:
    assert [(one.path, one.launches, one.ns) for one in scopes_of(TREE, 10)] == [
        (("decode",), 3.0, 5_800.0),
        (("decode", "partial"), 1.0, 5_000.0),
        (("decode", "join"), 2.0, 800.0),
        (("decode", "join", "merge"), 2.0, 800.0),
        (("deltas",), 1.0, 100.0),
    ]


class Proton:
    """A stand-in for ``triton.profiler`` that counts calls in its active session, and writes the tree at the end."""

    def __init__(self) -> None:
        self.is_active, self.counted, self.path = False, 0, ""

    def start(self, name: str, *, hook: str) -> int:
        assert hook == "triton"
        self.path, self.is_active = f"{name}.hatchet", True
        return 7

    def activate(self, session: int) -> None:
        self.is_active = session == 7

    def deactivate(self, session: int) -> None:
        self.is_active = session != 7

    def finalize(self, _session: int) -> None:
        Path(self.path).write_text(json.dumps(TREE))


@pytest.fixture
def proton(monkeypatch: pytest.MonkeyPatch) -> Proton:
    """Replace ``triton.profiler`` by the stand-in."""
    found = Proton()
    monkeypatch.setitem(sys.modules, "triton", types.ModuleType("triton"))
    monkeypatch.setitem(sys.modules, "triton.profiler", found)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return found


def test_calls_are_in_the_session_and_what_prepares_them_is_not(proton: Proton) -> None:
    seen: list[tuple[str, bool]] = []
    found = scopes_of_calls(
        lambda: seen.append(("run", proton.is_active)), lambda: seen.append(("set up", proton.is_active))
    )
    assert seen == [("set up", False), ("run", True)] * CALLS
    assert found == scopes_of(TREE, CALLS)


def test_where_nothing_is_tritons_there_is_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "triton", raising=False)
    assert scopes_of_calls(lambda: pytest.fail("called"), lambda: None) == ()
