"""One cell inside a worker: its tensors, its plan, its calls. The stages work on it (:mod:`attnbench.stages`)."""

from __future__ import annotations

import dataclasses
import gc
from random import SystemRandom
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.cases.inputs.sample_inputs import Inputs, queries_can_move
from attnbench.worker.dump import Outputs, copies, equal_bits
from attnbench.worker.output_checks import (
    MisconductError,
    require_own_memory,
    require_separate_memory,
    require_tensors,
    tensors_of,
)
from attnbench.worker.tensors import flip_signs, move_queries, queries_in_a_row, refresh, rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Implementation
    from attnbench.registry.operands import Operands
    from attnbench.worker.call import Call
    from attnbench.worker.cuda.device import Accelerator
    from attnbench.worker.timing import SampleWindow

# Bound before any plug-in is imported: one that replaces time.perf_counter_ns changes nothing here.
_CLOCK = perf_counter_ns
_RANDOM = SystemRandom()
REPEAT_NS = 10_000_000


class UnsupportedError(Exception):
    """The implementation gives a reason for not supporting the case."""


@dataclasses.dataclass(frozen=True)
class ObservedCall:
    """One call: its outputs where they are, and a copy that was made the moment that it returned."""

    live: Outputs
    kept: Outputs
    elapsed_ns: int

    def require_finished(self) -> None:
        """Work that goes on after a call returned is misconduct."""
        if not equal_bits(self.live, self.kept):
            raise MisconductError(
                "what a call returned was changed afterwards: it goes on after it returned, or reuses its output"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """The expected duration of a call, from those made so far."""

    call_ns: float
    anew_ns: float
    """The first call of a case: with what it prepares, compiles and sets up."""


@dataclasses.dataclass
class Session:
    """A case that is being run by an implementation on a device."""

    implementation: Implementation
    case: Case
    device: str
    operands: Operands | None = None
    call: Call | None = None
    results: list[Outputs] = dataclasses.field(default_factory=list)
    """Copies of what the last calls returned, made the moment that they returned: what the oracle is shown."""
    returned: list[Outputs] = dataclasses.field(default_factory=list)
    """The results of the first two calls themselves: no later one may lie in their memory while they are held."""
    repeat_ns: int = REPEAT_NS
    """Quick calls are repeated for so long, to see whether they always return the same."""
    expected: Expected | None = None
    """The duration of a call, once there were some."""
    window: SampleWindow | None = None
    inputs: Inputs = dataclasses.field(default_factory=Inputs)
    """The operands that are loaded."""
    queries: Any = None
    """Queries from which those of samples are moved."""
    accelerator: Accelerator | None = None
    """The device, if calls only queue work: its clocks and counters replace the host's."""

    def one_call(self) -> ObservedCall:
        """Call on the inputs as they are."""
        call = self.prepared()
        call.set_up()
        self.wait()
        start = _CLOCK()
        result = call.run()
        self.wait()
        elapsed = _CLOCK() - start
        outputs = call.outputs(result)
        require_tensors(outputs, self.implementation.declaration.framework, self.device)
        return ObservedCall(outputs, copies(outputs), elapsed)

    def further_call(self) -> int:
        """One call whose result takes the place of the others; how long it took, in ns."""
        call = self.one_call()
        require_separate_memory([*self.returned, call.live])
        self.results, self.returned = [call.kept], []
        return call.elapsed_ns

    def keep(self, result: object) -> None:
        """Keep the result of the last timed call, to be judged."""
        outputs = self.prepared().outputs(result)
        self.results = [copies(outputs)]
        require_own_memory(outputs, tensors_of(self.placed()), "input")

    def wait(self) -> None:
        """Until an accelerator has done what was queued."""
        if self.accelerator is not None:
            self.accelerator.synchronize()

    def refresh(self, repetition: int = 1) -> None:
        """Inputs that the implementation has not seen, in the same memory."""
        said = self.implementation.declaration
        self._rebind(refresh(self.case, said, self.placed(), repetition))
        self.inputs = Inputs(repetition=repetition)

    def begin_samples(self, repetition: int) -> None:
        """Inputs from which those of each sample follow."""
        self.refresh(repetition)
        if queries_can_move(self.case):
            self.queries = queries_in_a_row(self.case, self.implementation.declaration, self.device, repetition)

    def next_sample(self, moved: int | None = None) -> None:
        """Other inputs than those of the sample before (``cases/inputs/sample_inputs.py``), in the same memory.

        Queries move by chance where it is not said how far.
        """
        said, case = self.implementation.declaration, self.case
        flip_index = self.inputs.flip_index + 1
        if moved is None:
            moved = _RANDOM.randrange(max(1, case.heads_q * case.seqlen_q))
        moved = 0 if self.queries is None else moved
        self.inputs = self.inputs.model_copy(update={"flip_index": flip_index, "moved": moved})
        self.operands = flip_signs(case, said, self.placed(), flip_index)
        if self.queries is not None:
            self.operands = move_queries(case, said, self.operands, self.queries, self.inputs)
        if said.framework == "jax":  # the others' tensors are the same ones
            self.prepared().rebind(self.operands)

    def end_samples(self) -> None:
        """No more samples are taken."""
        self.window = self.queries = None

    def rewrite(self, inputs: Mapping[str, NDArray[np.floating]]) -> None:
        """Give the tensors other values, in the canonical shape."""
        declaration = self.implementation.declaration
        self._rebind(rewrite(self.case, declaration, self.placed(), lambda name: inputs[name]))

    def _rebind(self, operands: Operands) -> None:
        self.operands = operands
        self.prepared().rebind(operands)

    def placed(self) -> Operands:
        """The inputs."""
        if self.operands is None:
            raise RuntimeError("the case was not prepared")
        return self.operands

    def prepared(self) -> Call:
        """The call that was prepared."""
        if self.call is None:
            raise RuntimeError("the case was not prepared")
        return self.call

    def close(self) -> None:
        """Let go of everything, so that the next cell starts with what this one found."""
        self.call = self.operands = self.window = self.queries = None
        self.results, self.returned = [], []
        gc.collect()
