"""Answers each call as the model would, and records its description and time."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import threading
import time
from typing import TYPE_CHECKING

from attnbench.capturing.agreement import disagreement
from attnbench.capturing.clock import Moment
from attnbench.capturing.distinct import Tally
from attnbench.capturing.tensors import save_tensors
from attnbench.interception.described import CallSpec, Reason, described
from attnbench.interception.described.known_masks import KnownMasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from attnbench.capturing.distinct import Mode
    from attnbench.interception.call import AttentionCall

_RECOMPUTED = "_StopRecomputationError"
"""Raised by activation checkpointing within a recomputed call, as soon as it has all tensors that it needs."""
_UNREADABLE = (RuntimeError, TypeError, ValueError, NotImplementedError)
"""Raised by tensors without values, for example within ``vmap`` or while a model is exported."""
_LONGEST_REASON = 160
_MOST_OPEN = 256  # calls whose times have not been read; on a GPU, reading a time waits for it


@dataclasses.dataclass(eq=False)
class _Kind:
    """Calls with the same description."""

    spec: CallSpec
    api: str
    problem: str | None = None
    """Why the description is wrong: the model's output differs from it."""
    seen: int = 0
    memory: dict[str, None] = dataclasses.field(default_factory=dict)
    """How their tensors lie in memory, in the order of the first of each."""
    tallies: dict[tuple[Mode, int], Tally] = dataclasses.field(default_factory=dict)

    def tally(self, mode: Mode, part: int) -> Tally:
        key = mode, part
        return self.tallies.setdefault(
            key, Tally(spec=self.spec, api=self.api, mode=mode, part=part, memory=self.memory)
        )


@dataclasses.dataclass(eq=False)
class _Timed:
    """An answered call. Its backward pass, if any, comes later."""

    kind: _Kind
    layer: str | None
    part: int
    start: Moment
    end: Moment
    spent_ns: int
    place: int
    """Position among all calls."""
    tensors: dict[str, Tensor] | None = None
    """Queries, keys and values, kept until the upstream gradient is known."""
    backward_start: Moment | None = None
    backward_end: Moment | None = None

    @property
    def mode(self) -> Mode:
        return "forward" if self.backward_end is None else "forward_backward"

    def seconds(self) -> float:
        total = self.spent_ns / 1e9 + self.end.seconds_since(self.start)
        if self.backward_start is not None and self.backward_end is not None:
            total += self.backward_end.seconds_since(self.backward_start)
        return total


class CapturingHandler:
    """The handler of a capture, which records each call and its time.

    Queries, keys and values of the first ``tensors`` calls of each kind are written into the folder.
    """

    def __init__(self, folder: Path, tensors: int) -> None:
        self._folder = folder
        self._tensors = tensors
        self._lock = threading.RLock()
        self._masks = KnownMasks()
        self._kinds: dict[object, _Kind] = {}
        self._digests: dict[int, tuple[object, str]] = {}
        self._calls = 0
        self._done: list[_Timed] = []
        self._waiting: dict[int, _Timed] = {}
        """Calls whose backward pass may still come, by ``id``."""
        self.unmatched: collections.Counter[tuple[str, str]] = collections.Counter()
        self.devices: set[str] = set()
        self.dropouts: set[float] = set()
        self.own_ns = 0
        """Time spent on capturing itself."""

    def __call__(self, call: AttentionCall) -> Tensor:
        """Answer a call as the model would, and record it."""
        with self._own_time():
            kind = self._kind(call)
        # Views that only this call uses, whose gradients are complete when its backward pass is.
        given = [x.view_as(x) if call.needs_gradients and x.requires_grad else x for x in call.given]
        start = Moment(call.q.device)
        try:
            out = call.run(*given)
        except BaseException as error:
            if type(error).__name__ == _RECOMPUTED:
                self._keep(call, kind, None, (), start, Moment(call.q.device))
            raise
        end = Moment(call.q.device)
        with self._own_time():
            self._keep(call, kind, out, (*call.earlier, *given), start, end)
        return out

    def tell_unmatched(self, what: str, reason: str) -> None:
        """Count attention that was not understood."""
        with self._lock:
            self.unmatched[what, _in_short(reason)] += 1

    def tallies(self) -> list[Tally]:
        """Return the tallies of all calls except those counted as unmatched."""
        with self._lock:
            self._read([*self._done, *self._waiting.values()])
            self._done, self._waiting = [], {}
            return [tally for kind in self._kinds.values() for tally in kind.tallies.values()]

    @contextlib.contextmanager
    def _own_time(self) -> Iterator[None]:
        with self._lock:
            before = time.perf_counter_ns()
            try:
                yield
            finally:
                self.own_ns += time.perf_counter_ns() - before

    def _kind(self, call: AttentionCall) -> _Kind | None:
        try:
            spec = described(call, self._masks)
        except _UNREADABLE as error:
            spec = Reason(f"its tensors cannot be looked at: {_in_short(str(error))}")
        if isinstance(spec, Reason):
            self.unmatched[_what(call), spec.sentence] += 1
            return None
        bias = None if spec.bias is None else tuple(spec.bias.shape)
        key = (call.api, *spec.fields().items(), self._digest(spec), bias)
        kind = self._kinds.setdefault(key, _Kind(spec, call.api))
        kind.memory.setdefault(spec.memory)
        return kind

    def _digest(self, spec: CallSpec) -> str | None:
        """Return a digest of a mask's tensor, cached by the mask object, which is shared between equal masks."""
        tensor = spec.mask.tensor
        if tensor is None:
            return None
        known = self._digests.get(id(spec.mask))
        if known is None:
            known = (spec.mask, hashlib.sha256(tensor.tobytes()).hexdigest())
            self._digests[id(spec.mask)] = known
        return known[1]

    def _keep(
        self, call: AttentionCall, kind: _Kind | None, out: Tensor | None, given: Sequence[Tensor], start: Moment,
        end: Moment,
    ) -> None:  # fmt: skip
        self.devices.add(call.q.device.type)
        if kind is None:
            return
        if kind.seen == 0 and out is not None:
            try:
                kind.problem = disagreement(call, kind.spec, out)
            except _UNREADABLE as error:
                kind.problem = f"its output cannot be looked at: {_in_short(str(error))}"
        if kind.problem is not None:
            kind.seen += 1
            self.unmatched[_what(call), kind.problem] += 1
            return
        if call.dropout:
            self.dropouts.add(call.dropout)
        self._calls += 1
        part = kind.seen % self._tensors if self._tensors else 0
        timed = _Timed(kind, call.layer, part, start, end, call.spent_ns, self._calls)
        if kind.seen < self._tensors:
            timed.tensors = {name: getattr(call, name).detach().clone() for name in ("q", "k", "v")}
        kind.seen += 1
        if out is not None and call.needs_gradients and out.requires_grad:
            self._watch_backward(timed, given, out)
            return
        self._done.append(timed)
        if len(self._done) > _MOST_OPEN:
            self._read(self._done)
            self._done = []

    def _watch_backward(self, timed: _Timed, given: Sequence[Tensor], out: Tensor) -> None:
        """Time the backward pass, from the gradient of the output to the last gradient of an input."""
        inputs = [x for x in given if x.requires_grad]
        missing, device = len(inputs), out.device
        self._waiting[id(timed)] = timed

        def begin(gradient: Tensor | None) -> None:  # None if the loss does not depend on it
            with self._own_time():
                if timed.tensors is not None and gradient is not None:
                    self._save(timed, {"dout": gradient})
            timed.backward_start = timed.backward_start or Moment(device)

        def finish(_gradient: Tensor | None) -> None:
            nonlocal missing
            missing -= 1
            if missing == 0:
                timed.backward_end = Moment(device)
                with self._lock:
                    self._done += [timed] if self._waiting.pop(id(timed), None) else []

        out.register_hook(begin)  # type: ignore[no-untyped-call]
        for x in inputs:
            x.register_hook(finish)  # type: ignore[no-untyped-call]

    def _save(self, timed: _Timed, more: dict[str, Tensor]) -> None:
        assert timed.tensors is not None
        mode: Mode = "forward_backward" if more else "forward"
        tally = timed.kind.tally(mode, timed.part)
        tally.inputs = tally.inputs or save_tensors(self._folder, timed.tensors | more)
        timed.tensors = None

    def _read(self, timed: list[_Timed]) -> None:
        """Add the times of calls to their tallies."""
        for one in timed:
            if one.tensors is not None:  # the expected backward pass has not come
                self._save(one, {})
            one.kind.tally(one.mode, one.part).add(one.layer, one.place, one.seconds())


def _in_short(reason: str) -> str:
    """Shorten a reason to one line, as some of torch's messages are long."""
    line = " ".join(reason.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}…"


def _what(call: AttentionCall) -> str:
    """Return a name for calls that are not understood."""
    return f"{call.api} attention, q {tuple(call.q.shape)}, k {tuple(call.k.shape)}"
