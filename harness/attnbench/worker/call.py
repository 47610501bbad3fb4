"""Binds an implementation to a case: one callable for each mode, with the same shape of result for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.worker.projections import with_projections

if TYPE_CHECKING:
    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Implementation
    from attnbench.registry.operands import Operands
    from attnbench.worker.dump import Outputs


def no_gradients(implementation: Implementation, case: Case) -> str | None:
    """Why this implementation has no gradients for the case, or ``None``."""
    if not case.needs_gradients:
        return None
    if implementation.backward_hook is None and implementation.declaration.framework != "torch":
        return "it has no backward pass: give it one with @f.backward"
    if implementation.backward_hook is not None and _wrapped(implementation, case):
        return "its backward pass is explicit and ends at the projections of multi_head_attention"
    return None


def _wrapped(implementation: Implementation, case: Case) -> bool:
    """Whether the harness puts the projections around this core."""
    return case.operator == "multi_head_attention" and "attention" in implementation.declaration.operators


def bind(implementation: Implementation, case: Case, operands: Operands) -> Call:
    """Prepare the implementation for the case and make it callable; raises what its ``prepare`` hook raises."""
    core = implementation
    start = perf_counter_ns()
    plan = core.prepare_hook(case, operands) if core.prepare_hook is not None else None
    prepare_ns = perf_counter_ns() - start
    function = _forward(core, case, plan)
    if _wrapped(core, case):
        function = with_projections(function, core.declaration, case, operands)
    kind: type[Call] = Forward
    if case.needs_gradients:
        kind = ExplicitBackward if core.backward_hook is not None else AutogradBackward
    return kind(core, case, operands, plan, function, prepare_ns)


def _forward(core: Implementation, case: Case, plan: Any) -> Any:
    if core.takes_plan:
        return lambda q, k, v: core.call(q, k, v, case, plan)
    return lambda q, k, v: core.call(q, k, v, case)


class Call(ABC):
    """A prepared call. ``run`` is what is timed; ``set_up`` comes before it where ``needs_set_up``."""

    needs_set_up = False

    def __init__(
        self, core: Implementation, case: Case, operands: Operands, plan: Any, function: Any, prepare_ns: int
    ) -> None:
        self.core, self.case, self.plan, self.function = core, case, plan, function
        self.prepare_ns = prepare_ns
        self.operands = operands
        self.rebind(operands)

    def rebind(self, operands: Operands) -> None:
        """Take operands with fresh values; nothing that was prepared is prepared again."""
        self.operands = operands

    def set_up(self) -> None:  # noqa: B027 - most modes have nothing to set up
        """What must precede a call without being part of it."""

    @abstractmethod
    def run(self) -> Any:
        """One call."""

    @abstractmethod
    def outputs(self, result: Any) -> Outputs:
        """The tensors that a call returned, by name: out, lse, dq, dk, dv."""

    def returned(self, outputs: Outputs) -> Outputs:
        """Those outputs that a call itself brings into being: not the forward pass's where only backward is called."""
        if self.case.mode != "backward":
            return outputs
        return {name: tensor for name, tensor in outputs.items() if name in ("dq", "dk", "dv")}

    def _named(self, result: Any) -> Outputs:
        if self.core.declaration.returns_lse and self.case.operator == "attention":
            out, lse = result
            return {"out": out, "lse": lse}
        return {"out": result}


class Forward(Call):
    """The output alone."""

    def run(self) -> Any:
        """One forward pass."""
        return self.function(self.operands.q, self.operands.k, self.operands.v)

    def outputs(self, result: Any) -> Outputs:
        """``out``, and ``lse`` where declared."""
        return self._named(result)


class ExplicitBackward(Call):
    """Gradients by the implementation's own backward pass."""

    needs_set_up = True
    _forward_result: Any = None

    def set_up(self) -> None:
        """For ``backward`` alone, the forward pass whose results it needs."""
        if self.case.mode == "backward":
            self._forward_result = self._forward()

    def run(self) -> Any:
        """The backward pass, or both."""
        forward = self._forward() if self.case.mode == "forward_backward" else self._forward_result
        out, lse = forward if self.core.declaration.returns_lse else (forward, None)
        o = self.operands
        assert self.core.backward_hook is not None
        gradients = self.core.backward_hook(o.dout, o.q, o.k, o.v, out, lse, self.case, self.plan)
        return (forward, gradients) if self.case.mode == "forward_backward" else gradients

    def outputs(self, result: Any) -> Outputs:
        """``dq``, ``dk``, ``dv``, and the forward pass's results."""
        forward, gradients = result if self.case.mode == "forward_backward" else (self._forward_result, result)
        named = dict(zip(("dq", "dk", "dv"), gradients, strict=True))
        return {**self._named(forward), **named}

    def _forward(self) -> Any:
        return self.function(self.operands.q, self.operands.k, self.operands.v)


class AutogradBackward(Call):
    """Gradients by torch's autograd. Each backward pass has a graph of its own, as in training."""

    needs_set_up = True
    _result: Any = None

    def rebind(self, operands: Operands) -> None:
        """Make leaves of the inputs, so that gradients arrive there."""
        super().rebind(operands)
        self._leaves = [t.detach().requires_grad_() for t in (operands.q, operands.k, operands.v)]

    def set_up(self) -> None:
        """For ``backward`` alone, a forward pass that records its graph."""
        self._result = None
        if self.case.mode == "backward":
            self._result = self.function(*self._leaves)

    def run(self) -> Any:
        """The backward pass, or both."""
        import torch

        result = self.function(*self._leaves) if self.case.mode == "forward_backward" else self._result
        out = result[0] if isinstance(result, tuple) else result
        gradients = torch.autograd.grad(out, self._leaves, self.operands.dout)
        return (result, gradients) if self.case.mode == "forward_backward" else gradients

    def outputs(self, result: Any) -> Outputs:
        """``dq``, ``dk``, ``dv``, and the forward pass's results."""
        forward, gradients = result if self.case.mode == "forward_backward" else (self._result, result)
        named = self._named(forward)
        return {
            name: t.detach() for name, t in {**named, **dict(zip(("dq", "dk", "dv"), gradients, strict=True))}.items()
        }
