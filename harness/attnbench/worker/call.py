"""Binds an implementation to a case: one callable for each mode, with the same form of result for all of them."""

from __future__ import annotations

import dataclasses
import sys
from abc import ABC, abstractmethod
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from attnbench.worker.upstream import out_of_sight

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Declaration, Implementation
    from attnbench.registry.operands import Operands
    from attnbench.worker.dump import Outputs


def refusal(implementation: Implementation, case: Case, device: str) -> str | None:
    """Return why the implementation does not support a case, or ``None``."""
    refused = implementation.declaration.refuses(case, device) or _no_gradients(implementation, case)
    if refused is None and case.dropout is not None and implementation.kept_hook is None:
        refused = "nobody could tell which weights it drops: give it @f.kept"
    if refused is None and implementation.supports_hook is not None:
        refused = implementation.supports_hook(case, device)
    return refused


def refuses_nothing(implementation: Implementation) -> bool:
    """Whether the implementation refuses only the cases that its declaration refuses."""
    by_autograd = implementation.backward_hook is None and implementation.declaration.framework == "torch"
    return implementation.supports_hook is None and by_autograd


def _no_gradients(implementation: Implementation, case: Case) -> str | None:
    if not case.needs_gradients:
        return None
    if implementation.backward_hook is None and implementation.declaration.framework != "torch":
        return "it has no backward pass: give it one with @f.backward"
    if implementation.backward_hook is not None and _wrapped(implementation, case):
        return "its backward pass is explicit and ends at the projections of multi_head_attention"
    return None


def _wrapped(implementation: Implementation, case: Case) -> bool:
    """Whether the harness adds the projections around this core."""
    return case.operator == "multi_head_attention" and "attention" in implementation.declaration.operators


def bind(implementation: Implementation, case: Case, operands: Operands) -> Call:
    """Prepare the implementation for the case, and return its call; raises what its ``prepare`` hook raises."""
    _forget_compiled()
    if case.bias_grad and implementation.backward_hook is None:
        operands.bias.requires_grad_()  # before a plan keeps it
    plan, prepare_ns = _prepare(implementation, case, operands)
    function = _forward(implementation, case, plan)
    if _wrapped(implementation, case):
        function = _with_projections(function, implementation.declaration, case, operands)
    kind: type[Call] = Forward
    if case.needs_gradients:
        kind = AutogradBackward if implementation.backward_hook is None else ExplicitBackward
    return kind(implementation, case, operands, plan, function, prepare_ns)


def _forget_compiled() -> None:
    """Reset torch's compiler, which silently runs the ninth shape of a function uncompiled."""
    if "torch._dynamo" in sys.modules:
        import torch

        torch.compiler.reset()


def _prepare(core: Implementation, case: Case, operands: Operands) -> tuple[Any, int]:
    """Return the plan, and the nanoseconds that it took to make."""
    if core.prepare_hook is None:
        return None, 0
    of_core = _projected(core.declaration, case, operands) if _wrapped(core, case) else operands
    start = perf_counter_ns()
    plan = core.prepare_hook(case, of_core)
    return plan, perf_counter_ns() - start


def _forward(core: Implementation, case: Case, plan: Any) -> Any:
    if core.takes_plan:
        return lambda q, k, v: core.call(q, k, v, case, plan)
    return lambda q, k, v: core.call(q, k, v, case)


class Call(ABC):
    """A prepared call. ``run`` is timed; ``set_up`` precedes it if ``needs_set_up``."""

    needs_set_up = False

    def __init__(
        self, core: Implementation, case: Case, operands: Operands, plan: Any, function: Any, prepare_ns: int
    ) -> None:
        self.core, self.case, self.plan, self.function = core, case, plan, function
        self.prepare_ns = prepare_ns
        self.operands = operands
        self.rebind(operands)

    def rebind(self, operands: Operands) -> None:
        """Use operands with fresh values; preparation is not repeated."""
        self.operands = operands

    def set_up(self) -> None:  # noqa: B027 - most modes have nothing to set up
        """Do the steps that must precede a call without being part of it."""

    @abstractmethod
    def run(self) -> Any:
        """Make one call."""

    ranks = 1
    """The number of processes that share the call."""
    others_peak_bytes = 0
    """The highest peak among the other processes that shared the last weighed call."""

    def run_weighed(self) -> Any:
        """Make one call whose memory is measured, including in the other processes that share it."""
        return self.run()

    def require_conduct(self) -> None:  # noqa: B027 - the caller checks the tensors of a single process
        """Check the first calls in the processes that made them.

        Raises:
            MisconductError: another process that shares the calls misbehaves.
        """

    @abstractmethod
    def outputs(self, result: Any) -> Outputs:
        """Return the tensors of a call by name: out, lse, kept, dq, dk, dv, dbias."""

    def returned(self, outputs: Outputs) -> Outputs:
        """Return the outputs that the call itself creates; a call of the backward pass alone creates only gradients."""
        if self.case.mode != "backward":
            return {name: tensor for name, tensor in outputs.items() if name != "kept"}
        return {name: tensor for name, tensor in outputs.items() if name in self.case.gradients}

    def _named(self, result: Any) -> Outputs:
        kept = {}
        if self.case.dropout is not None:
            assert self.core.kept_hook is not None
            kept = {"kept": self.core.kept_hook(self.case, self.plan)}
        if self.core.declaration.returns_lse and self.case.operator == "attention":
            out, lse = result
            return {"out": out, "lse": lse, **kept}
        return {"out": result, **kept}


class Forward(Call):
    """A call that computes only the output."""

    def run(self) -> Any:
        return self.function(self.operands.q, self.operands.k, self.operands.v)

    def outputs(self, result: Any) -> Outputs:
        """Return ``out``, and ``lse`` if declared."""
        return self._named(result)


class _Backward(Call):
    """A call of the backward pass alone, or of the forward and the backward pass."""

    needs_set_up = True
    _forward_result: Any = None

    @abstractmethod
    def _forward(self) -> Any:
        """Run the forward pass."""

    @abstractmethod
    def _gradients(self, forward: Any) -> Any:
        """Return ``dq``, ``dk`` and ``dv`` from the forward pass's result."""

    def set_up(self) -> None:
        """Run the forward pass whose results the mode ``backward`` needs."""
        self._forward_result = None
        if self.case.mode == "backward":
            with out_of_sight(self.operands.dout):
                self._forward_result = self._forward()

    def run(self) -> Any:
        """Run the backward pass, or both passes."""
        if self.case.mode == "backward":
            return self._gradients(self._forward_result)
        forward = self._forward()
        return forward, self._gradients(forward)

    def outputs(self, result: Any) -> Outputs:
        """Return the requested gradients and the forward pass's outputs."""
        forward, gradients = (self._forward_result, result) if self.case.mode == "backward" else result
        return {**self._named(forward), **dict(zip(self.case.gradients, gradients, strict=True))}


class ExplicitBackward(_Backward):
    """A backward pass of the implementation's own."""

    def _forward(self) -> Any:
        return self.function(self.operands.q, self.operands.k, self.operands.v)

    def _gradients(self, forward: Any) -> Any:
        out, lse = forward if self.core.declaration.returns_lse else (forward, None)
        o = self.operands
        assert self.core.backward_hook is not None
        return self.core.backward_hook(o.dout, o.q, o.k, o.v, out, lse, self.case, self.plan)


class AutogradBackward(_Backward):
    """A backward pass by torch's autograd, each with a new graph, as in training."""

    def rebind(self, operands: Operands) -> None:
        """Make leaves of the inputs, for which gradients are computed."""
        super().rebind(operands)
        self._leaves = [t.detach().requires_grad_() for t in (operands.q, operands.k, operands.v)]

    def _forward(self) -> Any:
        return self.function(*self._leaves)

    def _gradients(self, forward: Any) -> Any:
        import torch

        out = forward[0] if isinstance(forward, tuple) else forward
        of_bias = [self.operands.bias] if self.case.bias_grad else []
        return torch.autograd.grad(out, [*self._leaves, *of_bias], self.operands.dout)

    def outputs(self, result: Any) -> Outputs:
        """Return the tensors without their graph."""
        return {name: tensor.detach() for name, tensor in super().outputs(result).items()}


def _with_projections(
    core: Callable[[Any, Any, Any], Any], said: Declaration, case: Case, operands: Operands
) -> Callable[[Any, Any, Any], Any]:
    """Wrap ``core(q, k, v)`` into a function of the inputs x_q, x_k, x_v of shape (batch, seqlen, embed_dim).

    The result is multi-head attention around any core: projections, heads, concatenation, output projection, without
    bias vectors (Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2).

    It returns the output, shape (batch, seqlen_q, embed_dim); an LSE that the core returns is dropped.
    """
    w_q, w_k, w_v, w_o = operands.w_q, operands.w_k, operands.w_v, operands.w_o

    def multi_head(x_q: Any, x_k: Any, x_v: Any) -> Any:
        q = _split(x_q @ w_q, case.heads_q, said.layout)
        k = _split(x_k @ w_k, case.heads_kv, said.layout)
        v = _split(x_v @ w_v, case.heads_kv, said.layout)
        result = core(q, k, v)
        out = result[0] if said.returns_lse else result
        return _join(out, case, said.layout) @ w_o

    return multi_head


def _projected(said: Declaration, case: Case, operands: Operands) -> Operands:
    """Return the operands that the core is called with, so that it is prepared for their shapes and strides."""
    return dataclasses.replace(
        operands,
        q=_split(operands.q @ operands.w_q, case.heads_q, said.layout),
        k=_split(operands.k @ operands.w_k, case.heads_kv, said.layout),
        v=_split(operands.v @ operands.w_v, case.heads_kv, said.layout),
    )


def _split(x: Any, heads: int, layout: str) -> Any:
    """Reshape (batch, seqlen, heads * dim) to the core's layout; ``bhsd`` is a transposed view, as in real models."""
    batch, seqlen, width = x.shape
    split = x.reshape(batch, seqlen, heads, width // heads)
    if layout == "bshd":
        return split
    if layout == "packed":
        return split.reshape(batch * seqlen, heads, width // heads)
    return split.swapaxes(1, 2)


def _join(out: Any, case: Case, layout: str) -> Any:
    """Reshape the core's output to (batch, seqlen_q, heads_q * head_dim_v), with the heads' outputs concatenated."""
    if layout == "bhsd":
        out = out.swapaxes(1, 2)
    return out.reshape(case.batch, case.seqlen_q, case.heads_q * case.head_dim_v)
