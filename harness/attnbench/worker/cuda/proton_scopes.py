"""Time on the GPU by the scopes that code around Triton kernels opens, from Proton, Triton's own profiler.

Untested on a GPU: the tests read a tree in the format of Proton's own test data (triton-lang/triton,
third_party/proton/test/examples/cuda.json). ``triton.profiler.scope("name")`` opens a scope.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.profiling.parts import ScopeOfCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

CALLS = 10
_MOST = 200


def scopes_of_calls(run: Callable[[], object], set_up: Callable[[], object]) -> tuple[ScopeOfCall, ...]:
    """Make calls in a session of Proton; none where no kernel of Triton's has been imported.

    It is no part of torch.profiler's calls: CUPTI takes one subscriber at a time.

    Raises:
        Exception: whatever Proton or CUDA say where they cannot.
    """
    if "triton" not in sys.modules:
        return ()
    torch, proton = import_module("torch"), import_module("triton.profiler")
    with tempfile.TemporaryDirectory(prefix="attnbench-") as folder:
        path = Path(folder) / "call"
        session = proton.start(str(path), hook="triton")
        try:
            for _ in range(CALLS):
                proton.deactivate(session)
                set_up()
                torch.cuda.synchronize()
                proton.activate(session)
                run()
                torch.cuda.synchronize()
        finally:
            proton.finalize(session)
        return scopes_of(json.loads(path.with_suffix(".hatchet").read_text("utf-8")), CALLS)


def scopes_of(tree: Sequence[Mapping[str, Any]], calls: int) -> tuple[ScopeOfCall, ...]:
    """Scopes and the kernels in them, with all that they contain, in the tree's order.

    Args:
        tree: what Proton writes: a root, and behind it the devices; times in nanoseconds.
        calls: how many calls it is of.
    """
    return tuple(one for child in tree[0]["children"] for one in _below(child, (), calls))[:_MOST]


def _below(node: Mapping[str, Any], above: tuple[str, ...], calls: int) -> Iterator[ScopeOfCall]:
    path = (*above, node["frame"]["name"])
    yield ScopeOfCall(path=path, launches=_total(node, "count") / calls, ns=_total(node, "time (ns)") / calls)
    for child in node["children"]:
        yield from _below(child, path, calls)


def _total(node: Mapping[str, Any], metric: str) -> float:
    own = float(node.get("metrics", {}).get(metric, 0))
    return own + sum(_total(child, metric) for child in node["children"])
