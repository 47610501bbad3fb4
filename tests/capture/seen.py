"""Intercepts the attention calls of a function, and checks that this changes no result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from attnbench.capturing.agreement import disagreement
from attnbench.interception import AttentionCall, intercept
from attnbench.interception.described import CallSpec, described


@dataclasses.dataclass
class Seen:
    """The calls with their descriptions, and attention that was not matched."""

    calls: list[AttentionCall]
    specs: list[CallSpec]
    unmatched: list[tuple[str, str]]

    @property
    def only(self) -> CallSpec:
        """The only description."""
        assert not self.unmatched, self.unmatched
        (spec,) = self.specs
        return spec


def see(compute: Callable[[], object]) -> Seen:
    """Run a function within an interception whose handler answers as the model would.

    Each description is compared with the model's own output.
    """
    seen = Seen([], [], [])

    def handler(call: AttentionCall) -> torch.Tensor:
        seen.calls.append(call)
        out = call.original()
        spec = described(call)
        assert isinstance(spec, CallSpec), spec
        assert disagreement(call, spec, out) is None
        seen.specs.append(spec)
        return out

    with intercept(handler, lambda what, reason: seen.unmatched.append((what, reason))):
        answer = compute()
    if isinstance(answer, torch.Tensor):
        with torch.no_grad():
            torch.testing.assert_close(answer, compute())
    return seen
