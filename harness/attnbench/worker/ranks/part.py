"""A rank's part of a cell: its tokens, and the call on them."""

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
    """The tokens of a tensor that each rank holds."""

    implementation: Implementation
    case: Case
    ranks: int
    _held: dict[tuple[int, int], tuple[int, ...]] = dataclasses.field(default_factory=dict, compare=False)
    """The hook's answers, by length and rank."""

    def require_each_once(self) -> None:
        """Raise unless exactly one rank holds each token; a rank with all tokens would not need the others.

        Raises:
            ValueError: a sentence that names a rank.
        """
        for name, seqlen in (("q", self.case.seqlen_q), ("k", self.case.seqlen_kv)):
            holders = [-1] * seqlen
            for rank in range(self.ranks):
                for token in self.of(name, rank):
                    if not 0 <= token < seqlen:
                        raise ValueError(f"tokens: rank {rank} holds token {token} of {name}, which has {seqlen}")
                    if holders[token] >= 0:
                        raise ValueError(f"tokens: ranks {holders[token]} and {rank} both hold token {token} of {name}")
                    holders[token] = rank
            if -1 in holders:
                raise ValueError(f"tokens: no rank holds token {holders.index(-1)} of {name}")

    def of(self, name: str, rank: int) -> Sequence[int]:
        """Return the positions of a rank's tokens, in the order in which it stores them."""
        seqlen = self.case.seqlen_q if name in OF_QUERIES else self.case.seqlen_kv
        if (seqlen, rank) not in self._held:
            self._held[seqlen, rank] = tuple(self.implementation.tokens_hook(self.case, seqlen, rank, self.ranks))
        return self._held[seqlen, rank]

    def axis(self, name: str) -> int:
        """Return the axis of tokens."""
        return 1 if self.implementation.declaration.layout == "bshd" and name != "lse" else 2

    def shares(self, operands: Operands, rank: int) -> dict[str, Tensor]:
        """Return copies of a rank's share of each tensor, by name."""
        import torch

        return {
            name: tensor.index_select(self.axis(name), torch.tensor(self.of(name, rank), dtype=torch.int64))
            for name in ("q", "k", "v", "dout")
            if (tensor := getattr(operands, name)) is not None
        }

    def joined(self, parts: Sequence[Mapping[str, Tensor]]) -> Outputs:
        """Join all ranks' shares to whole tensors, by name.

        Raises:
            ValueError: a share is missing, or does not fit its rank's tokens.
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
                due = (*shape[:axis], len(places), *shape[axis + 1 :])
                if (share := part.get(name)) is None:
                    raise ValueError(f"rank {rank} returned no {name}, and rank 0 did")
                if tuple(share.shape) != due or share.dtype != first.dtype:
                    returned = f"{name} of shape {tuple(share.shape)} in {share.dtype}"
                    raise ValueError(f"rank {rank} returned {returned}, and {due} in {first.dtype} is its share")
                joined.index_copy_(axis, places, share.detach())
        return whole


class Part:
    """A rank's share of the operands, and a call on it. All ranks run its methods at the same time."""

    def __init__(self, implementation: Implementation, case: Case, shares: Mapping[str, Tensor]) -> None:
        self.operands = Operands(**shares)
        self.call = bind(implementation, case, self.operands)
        self.result: Any = None
        self.recording = Recording()
        self._framework = implementation.declaration.framework
        self._observed: list[ObservedCall] | None = []
        """The first calls, until they are checked."""
        self._returned: list[Outputs] = []
        """The results of the first calls, whose memory the next call must not reuse."""
        self._given: dict[str, int] = {}

    def set_up(self, shares: Mapping[str, Tensor]) -> None:
        """Copy other values to the operands, set the call up, and wait for all ranks."""
        for name, values in shares.items():
            getattr(self.operands, name).copy_(values)
        if self._observed is not None:
            self._given = checksums(self.operands)
        self.get_ready()

    def get_ready(self) -> None:
        """Set the call up, and wait for all ranks."""
        import torch.distributed as dist

        self.result = None  # freed outside of the timed region
        self.call.set_up()
        dist.barrier()

    def run(self) -> None:
        """Make one call. The first calls' outputs are copied at once; in the second one, fresh memory holds NaN."""
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
        """Return this rank's share of the last call's outputs.

        Raises:
            MisconductError: one is no plain tensor, or is not in memory of its own.
        """
        outputs = self.call.outputs(self.result)
        require_tensors(outputs, self._framework, "cpu")
        require_own_memory(outputs, tensors_of(self.operands), "input")
        if self._observed is None:
            require_separate_memory([*self._returned, outputs])
            self._returned = []
        return outputs

    def require_conduct(self) -> None:
        """Check the first calls some time after they returned.

        Raises:
            MisconductError: for the same reasons as a call in one process, whose checks would see only copies here.
        """
        observed, self._observed = self._observed or [], None
        self._returned = [one.live for one in observed]
        require_separate_memory(self._returned)
        for one in observed:
            one.require_finished()
        require_unchanged(self._given, self.operands)

    def watch(self, how: str) -> int:
        """Make one call on the current values, timed by this rank's clock.

        Args:
            how: ``call``; ``compute``, without communication; ``record``, which records what is sent; ``communicate``,
                which sends the recorded messages again without computing.

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
