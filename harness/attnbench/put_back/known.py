"""Cache of implementations prepared for a model's calls, reused for further calls of the same kind."""

from __future__ import annotations

import collections
import dataclasses
import tempfile
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from attnbench.capturing.tensors import save_tensors
from attnbench.cases.case import make_case
from attnbench.interception.described.spec import Reason, described
from attnbench.interception.kind import is_transformed
from attnbench.put_back.ready import ReadyCall, made_ready
from attnbench.worker.call import refusal

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.interception import AttentionCall
    from attnbench.interception.described.spec import CallSpec
    from attnbench.interception.kind import Kind
    from attnbench.registry.implementation import Implementation

MOST_CALLS = 128
"""Number of kinds of calls that are kept, least recently used first out. Generation has one kind per length."""
_MOST_TENSORS = 16
"""Number of masks, biases and sinks whose values are kept for comparison: some models have a few per layer."""


@dataclasses.dataclass(eq=False, slots=True)
class _Kept:
    answer: ReadyCall | Reason
    used: int = 0
    """Number of the last use, which orders entries by age."""


class KnownCalls:
    """Caches, for each kind of call, the prepared implementation or the reason why it cannot serve the call.

    Calls are of one kind if everything except the values of Q, K and V is equal, including the values of masks, biases
    and sinks.
    """

    def __init__(self, implementation: Implementation) -> None:
        self._implementation = implementation
        self._known: dict[Hashable, _Kept] = {}
        self._by_kind: dict[Hashable, _Kept] = {}
        """Entries by kind, of calls whose only tensors are Q, K and V."""
        self._by_mask: collections.deque[tuple[Hashable, tuple[Tensor, ...], _Kept]] = collections.deque(
            maxlen=_MOST_TENSORS
        )
        """Entries of calls with masks, biases or sinks, the most recently used first."""
        self._uses = 0
        self._tensors: collections.deque[tuple[Tensor, int]] = collections.deque(maxlen=_MOST_TENSORS)
        self._numbered = 0
        self._users: collections.Counter[Path] = collections.Counter()
        """Number of kinds of calls that need each file: equal masks share one."""
        self._unneeded: collections.deque[Path] = collections.deque()
        """Files that a call no longer needs, once for each such call. Garbage is collected within any lock."""
        self._lock = threading.Lock()
        """Modules may call from several threads at once."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def like_earlier(self, kind: Kind) -> ReadyCall | None:
        """Return the implementation if ready for calls of this kind; needs no description, unlike :meth:`find`."""
        others = kind.tensors[3:]
        if not others:
            kept = self._by_kind.get(kind.key)
        else:
            kept = next(
                (
                    one
                    for key, known, one in tuple(self._by_mask)
                    if key == kind.key and all(map(torch.equal, known, others))
                ),
                None,
            )
        if kept is None or isinstance(kept.answer, Reason):
            return None
        self._uses = kept.used = self._uses + 1
        return kept.answer

    def find(self, call: AttentionCall) -> ReadyCall | Reason:
        """Return the implementation ready for the call, or why it cannot serve it; raises what its hooks raise."""
        if is_transformed():
            return Reason("it runs within a transform of torch.func, or gradients are wanted in forward mode")
        strange = {type(x).__name__ for x in (call.q, call.k, call.v)} - {"Tensor", "Parameter"}
        if strange:
            return Reason(f"its tensors are of the class {min(strange)}")
        if any(x.is_meta for x in (call.q, call.k, call.v)):
            return Reason("its tensors have no values")
        with self._lock:
            answer = self._find(call)
            self._remove_unneeded()
            return answer

    def _find(self, call: AttentionCall) -> ReadyCall | Reason:
        key = self._key(call)
        kept = self._known.get(key)
        if kept is None:
            kept = self._known[key] = _Kept(self._make_ready(call))
        self._uses = kept.used = self._uses + 1
        if len(self._known) > MOST_CALLS:
            self._forget(min(self._known, key=lambda one: self._known[one].used))
        if call.kind is not None:
            others = tuple(x.detach().clone() for x in call.kind.tensors[3:])
            if others:
                self._by_mask.appendleft((call.kind.key, others, kept))
            else:
                if len(self._by_kind) >= MOST_CALLS:  # keywords may take a new value in every call
                    self._by_kind.clear()
                self._by_kind[call.kind.key] = kept
        return kept.answer

    def _forget(self, key: Hashable) -> None:
        gone = self._known.pop(key)
        self._by_kind = {kind: kept for kind, kept in self._by_kind.items() if kept is not gone}
        staying = [one for one in self._by_mask if one[-1] is not gone]
        self._by_mask = collections.deque(staying, maxlen=_MOST_TENSORS)

    def close(self) -> None:
        """Drop all entries and remove all files."""
        self._known.clear()
        self._by_kind.clear()
        self._by_mask.clear()
        self._tensors.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def _key(self, call: AttentionCall) -> Hashable:
        tensors = (call.q, call.k, call.v)
        return (
            *((x.shape, x.stride(), x.dtype, x.device) for x in tensors),
            *(None if x is None else self._number(x) for x in (call.mask, call.bias, call.sinks)),
            (call.scale, call.causal, call.window, call.softcap, call.dropout > 0, call.api == "matmul"),
            call.needs_gradients,
        )

    def _number(self, tensor: Tensor) -> tuple[int, bool]:
        """Return a number that identifies a tensor's values, and whether it needs gradients."""
        wanted = torch.is_grad_enabled() and tensor.requires_grad
        for known, number in self._tensors:
            if known.dtype == tensor.dtype and known.device == tensor.device and torch.equal(known, tensor):
                return number, wanted
        self._numbered += 1
        self._tensors.appendleft((tensor.detach().clone(), self._numbered))
        return self._numbered, wanted

    def _make_ready(self, call: AttentionCall) -> ReadyCall | Reason:
        if call.api == "matmul":
            return Reason(
                "the model computes its scores by itself, in plain torch, and nothing can take the place of that"
            )
        if call.dropout > 0:
            return Reason("it drops probabilities at random")
        if torch.is_grad_enabled() and any(
            x is not None and x.requires_grad for x in (call.mask, call.bias, call.sinks)
        ):
            return Reason("gradients of its mask, bias or sinks are wanted")
        spec = described(call)
        if isinstance(spec, Reason):
            return spec
        case = self._case(spec, call)
        files = [Path(text) for text in (case.mask_file, case.bias_file) if text is not None]
        self._users.update(files)
        refused = refusal(self._implementation, case, call.q.device.type)
        if refused is not None:
            self._unneeded.extend(files)
            return Reason(f"{refused}{_hint(refused, case)}")
        ready = made_ready(self._implementation, case, call)
        weakref.finalize(ready, self._unneeded.extend, files)  # a backward pass may need it after its entry is dropped
        return ready

    def _case(self, spec: CallSpec, call: AttentionCall) -> Case:
        fields = dict(spec.fields())
        if spec.mask.tensor is not None:
            fields["mask_file"] = self._file("mask", torch.from_numpy(spec.mask.tensor))
        if spec.bias is not None:
            fields["bias_file"] = self._file("bias", spec.bias)
        return make_case(**fields, mode="forward_backward" if call.needs_gradients else "forward")

    def _remove_unneeded(self) -> None:
        """Drop a user of each file that a call no longer needs, and remove files that have no users left."""
        while self._unneeded:
            file = self._unneeded.popleft()
            self._users[file] -= 1
            if not self._users[file]:
                del self._users[file]
                file.unlink(missing_ok=True)

    def _file(self, name: str, tensor: Tensor) -> str:
        """Write a tensor into a file for a case, and return its path."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="attnbench-")
        folder = Path(self._folder.name)
        return str(folder / save_tensors(folder, {name: tensor}))


def _hint(refused: str, case: Case) -> str:
    """Return a hint if the refusal may be due to gradients that the user does not need."""
    if case.needs_gradients and ("mode " in refused or "backward" in refused):
        return "; if no gradients are needed, call the model within torch.no_grad()"
    return ""
