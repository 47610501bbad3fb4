"""A rank's part of a cell: the tokens that it holds, and the call on them."""

from __future__ import annotations

import contextlib
import dataclasses
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.cases.inputs.operands import OF_QUERIES
from attnbench.registry.operands import Operands, Tensor
from attnbench.worker.call import bind
from attnbench.worker.dump import copies
from attnbench.worker.memory.allocator import poisoned_memory
from attnbench.worker.output_checks import (
    checksums,
    require_own_memory,
    require_separate_memory,
    require_tensors,
    require_unchanged,
    tensors_of,
)
from attnbench.worker.ranks.traffic import Recording, left_out, recorded
from attnbench.worker.session import ObservedCall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Implementation
    from attnbench.worker.dump import Outputs

_CLOCK = perf_counter_ns
_OBSERVED_CALLS = 2


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Which tokens of a tensor each rank holds."""

    implementation: Implementation
    case: Case
    ranks: int

    def of(self, name: str, rank: int) -> Sequence[int]:
        """Their positions, in the order in which they lie there."""
        seqlen = self.case.seqlen_q if name in OF_QUERIES else self.case.seqlen_kv
        return self.implementation.tokens_hook(self.case, seqlen, rank, self.ranks)

    def axis(self, name: str) -> int:
        """The axis of tokens."""
        return 1 if self.implementation.declaration.layout == "bshd" and name != "lse" else 2

    def shares(self, operands: Operands, rank: int) -> dict[str, Tensor]:
        """A rank's share of each tensor, by name; copies."""
        import torch

        return {
            name: tensor.index_select(self.axis(name), torch.tensor(self.of(name, rank), dtype=torch.int64))
            for name in ("q", "k", "v", "dout")
            if (tensor := getattr(operands, name)) is not None
        }

    def joined(self, parts: Sequence[Mapping[str, Tensor]]) -> Outputs:
        """Whole tensors of all ranks' shares, by name.

        Raises:
            ValueError: when a share has not as many tokens as its rank holds.
        """
        import torch

        whole: Outputs = {}
        for name, first in parts[0].items():
            axis, of_queries = self.axis(name), name in OF_QUERIES
            shape = list(first.shape)
            shape[axis] = self.case.seqlen_q if of_queries else self.case.seqlen_kv
            joined = whole[name] = first.new_empty(shape)
            for rank, part in enumerate(parts):
                places = torch.tensor(self.of(name, rank), dtype=torch.int64)
                if part[name].shape[axis] != len(places):
                    held = f"holds {len(places)} of its tokens"
                    raise ValueError(f"rank {rank} returned {name} of shape {tuple(part[name].shape)}, and {held}")
                joined.index_copy_(axis, places, part[name].detach())
        return whole


class Part:
    """A rank's share of the operands, and a call on it. What it does, all ranks do at the same time."""

    def __init__(self, implementation: Implementation, case: Case, shares: Mapping[str, Tensor]) -> None:
        self.operands = Operands(**shares)
        self.call = bind(implementation, case, self.operands)
        self.result: Any = None
        self.recording = Recording()
        self._framework = implementation.declaration.framework
        self._observed: list[ObservedCall] | None = []
        """The first calls, until they were looked at."""
        self._returned: list[Outputs] = []
        """The results of the first calls: the next one may not lie in that memory."""
        self._given: dict[str, int] = {}

    def set_up(self, shares: Mapping[str, Tensor]) -> None:
        """Take other values, do what precedes a call, and wait until all ranks are as far."""
        for name, values in shares.items():
            getattr(self.operands, name).copy_(values)
        if self._observed is not None:
            self._given = checksums(self.operands)
        self.get_ready()

    def get_ready(self) -> None:
        """Do what precedes a call, and wait until all ranks are as far."""
        import torch.distributed as dist

        self.result = None  # freed outside of the timed region
        self.call.set_up()
        dist.barrier()

    def run(self) -> None:
        """One call. What the first ones return is copied at once, and fresh memory of the second one holds NaN."""
        observed = self._observed
        if observed is None or len(observed) >= _OBSERVED_CALLS:
            self.result = self.call.run()
            return
        with poisoned_memory() if observed else contextlib.nullcontext():
            self.result = self.call.run()
        outputs = self.call.outputs(self.result)
        require_tensors(outputs, self._framework, "cpu")
        observed.append(ObservedCall(outputs, copies(outputs), 0))

    def outputs(self) -> Outputs:
        """This rank's share of what the last call returned.

        Raises:
            MisconductError: where it is no plain tensor, or lies in other memory than its own.
        """
        outputs = self.call.outputs(self.result)
        require_tensors(outputs, self._framework, "cpu")
        require_own_memory(outputs, tensors_of(self.operands), "input")
        if self._observed is None:
            require_separate_memory([*self._returned, outputs])
            self._returned = []
        return outputs

    def require_conduct(self) -> None:
        """Look at the first calls, some time after they returned.

        Raises:
            MisconductError: as a call in one process, for whose whole tensors the harness has only copies here.
        """
        observed, self._observed = self._observed or [], None
        self._returned = [one.live for one in observed]
        require_separate_memory(self._returned)
        for one in observed:
            one.require_finished()
        require_unchanged(self._given, self.operands)

    def watch(self, how: str) -> int:
        """One call on the values as they are, timed by this rank's own clock.

        Args:
            how: ``call``; ``compute``, with communication left out; ``record``, which writes down what is sent;
                ``communicate``, which sends that again and computes nothing.

        Returns:
            Nanoseconds.
        """
        self.get_ready()
        if how == "record":
            with recorded() as self.recording:
                return self._timed()
        if how == "compute":
            with left_out():
                return self._timed()
        if how == "communicate":
            began = _CLOCK()
            self.recording.repeat()
            return _CLOCK() - began
        return self._timed()

    def _timed(self) -> int:
        began = _CLOCK()
        self.run()
        return _CLOCK() - began
