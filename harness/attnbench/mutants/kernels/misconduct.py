"""Mistakes in reading and keeping memory, and cheats. The computation itself is right, at least the first time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, ClassVar

from attnbench.mutants.steps import Plan, Steps

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.registry.operands import Operands


def _as_if_contiguous(x: Tensor) -> Tensor:
    """Return ``x.numel()`` consecutive elements of memory from the tensor's first one, wrapping around at the end."""
    import torch

    flat = torch.as_strided(x, (x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
    places = (x.storage_offset() + torch.arange(x.numel())) % flat.numel()
    return flat[places].reshape(x.shape)


class QueriesAssumedContiguous(Steps):
    """The queries' memory is read as if it were contiguous."""

    copies = "pytorch/pytorch#112577"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        return super().forward(_as_if_contiguous(q), k, v, case, plan)


class ValuesAssumedContiguous(Steps):
    """The values' memory is read as if it were contiguous."""

    copies = "pytorch/pytorch#187503"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        return super().forward(q, k, _as_if_contiguous(v), case, plan)


class _ForwardOnly(Steps):
    """A mistake in the forward pass alone: autograd would refuse or undo it."""

    modes = ("forward",)


class OutputOfPreviousCall(_ForwardOnly):
    """A call returns what the call before it computed."""

    def __init__(self) -> None:
        self._previous: tuple[tuple[int, ...], tuple[Tensor, Tensor]] | None = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        now = super().forward(q, k, v, case, plan)
        before, self._previous = self._previous, (tuple(now[0].shape), now)
        out, lse = before[1] if before is not None and before[0] == tuple(now[0].shape) else now
        return out.clone(), lse.clone()


class OutputCached(_ForwardOnly):
    """The result for these addresses is returned again, whatever lies there now."""

    def __init__(self) -> None:
        self._results: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def prepare(self, case: Case, operands: Operands) -> Plan:
        self._results.clear()
        return super().prepare(case, operands)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        key = (q.data_ptr(), k.data_ptr(), v.data_ptr())
        if key not in self._results:
            self._results[key] = super().forward(q, k, v, case, plan)
        out, lse = self._results[key]
        return out.clone(), lse.clone()


class KeysPackedOnce(_ForwardOnly):
    """Keys are packed when the call is prepared, and never again."""

    def prepare(self, case: Case, operands: Operands) -> Plan:
        self._packed = operands.k.detach().clone()
        return super().prepare(case, operands)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        packed = self._packed if self._packed.shape == k.shape else k
        return super().forward(q, packed, v, case, plan)


class OutputIsAnInput(_ForwardOnly):
    """The output is written into the queries' memory."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        return (q.copy_(out) if out.shape == q.shape else out), lse


class OutputBufferReused(_ForwardOnly):
    """All calls write into the same buffer, so that an earlier result changes under its owner."""

    _buffers: ClassVar[dict[tuple[tuple[int, ...], str], Tensor]] = {}

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        return self._buffers.setdefault((tuple(out.shape), str(out.dtype)), out.clone()).copy_(out), lse


class QueriesScaledInPlace(_ForwardOnly):
    """The queries are scaled in their own memory."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        result = super().forward(q, k, v, case, plan)
        q.mul_(0.5)
        return result


class LastRowUnwritten(_ForwardOnly):
    """The last row of the output is never written."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        import torch

        out, lse = super().forward(q, k, v, case, plan)
        fresh = torch.empty_like(out)
        fresh[:, :, :-1] = out[:, :, :-1]
        return fresh, lse


class GoesOnAfterReturn(_ForwardOnly):
    """The call returns at once; the result is written later."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        import torch

        out, lse = super().forward(q, k, v, case, plan)
        later = torch.zeros_like(out)

        def write() -> None:
            time.sleep(0.0005)
            later.copy_(out)

        threading.Thread(target=write).start()
        return later, lse


class RaceOneInFifty(Steps):
    """One call in fifty loses the last tile of 32 queries."""

    copies = "Dao-AILab/flash-attention#2481"

    def __init__(self) -> None:
        self._calls = 0

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        import torch

        self._calls += 1
        out, lse = super().forward(q, k, v, case, plan)
        if self._calls % 50:
            return out, lse
        return torch.cat([out[:, :, :-32], out[:, :, -32:] * 0], 2), lse
