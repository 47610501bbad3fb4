"""Prepares an implementation for a model's call, as a worker does for a case, but with the model's tensors."""

from __future__ import annotations

import collections
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.multiprocessing.reductions import StorageWeakRef

from attnbench.errors import AttnbenchError
from attnbench.interception.autocast import autocast_off
from attnbench.registry.operands import Operands
from attnbench.worker.tensors import canonical, laid_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from attnbench.cases.case import Case
    from attnbench.interception import AttentionCall
    from attnbench.registry.implementation import Declaration, Framework, Implementation

_OUTPUTS = 4
"""Number of outputs whose addresses are remembered."""
_VIEWS = {"transposed", "qkv_slice", "sliced"}


class PutBackError(AttnbenchError):
    """An implementation returned something other than attention's output; the message is one sentence."""


@dataclasses.dataclass(frozen=True, eq=False)
class ReadyCall:
    """An implementation prepared for calls that differ only in the values of Q, K and V."""

    implementation: Implementation
    case: Case
    plan: Any
    copied: tuple[bool, bool, bool]
    """Whether Q, K and V are each copied, as the implementation does not declare their strides."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the output (batch, heads_q, seqlen_q, head_dim_v) for tensors shaped as in an :class:`AttentionCall`.

        Raises:
            PutBackError: if the output has another shape or dtype.
        """
        layout = self.implementation.declaration.layout
        if layout != "bhsd":
            q, k, v = laid_out(q, layout), laid_out(k, layout), laid_out(v, layout)
        if any(self.copied):
            q, k, v = (x.contiguous() if copied else x for x, copied in zip((q, k, v), self.copied, strict=True))
        if not self.case.needs_gradients:
            out, _ = self.forward(*(x.detach() if x.requires_grad else x for x in (q, k, v)))
        elif self.implementation.backward_hook is None:
            out, _ = self.forward(q, k, v)
        else:
            out = _Explicit.apply(q, k, v, self)  # type: ignore[no-untyped-call]  # torch's
        return self._checked(canonical(self.case, layout, out))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the output in the declared layout, and the LSE if the implementation returns one."""
        said = self.implementation.declaration
        given: tuple[Any, ...] = (q, k, v)
        if said.framework != "torch":
            given = tuple(_to_framework(x, said.framework) for x in given)
        plan = (self.plan,) if self.implementation.takes_plan else ()
        result = self.implementation.call(*given, self.case, *plan)
        out, lse = result if said.returns_lse else (result, None)
        try:
            return _to_torch(out, q), None if lse is None else _to_torch(lse, q)
        except TypeError as error:
            raise PutBackError(f"{said.name}: {error}") from error

    def backward(self, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor | None) -> list[Tensor]:
        """Return dQ, dK and dV in the declared layout."""
        said, hook = self.implementation.declaration, self.implementation.backward_hook
        assert hook is not None
        given = [x if x is None else _to_framework(x, said.framework) for x in (dout, q, k, v, out, lse)]
        return [_to_torch(gradient, q) for gradient in hook(*given, self.case, self.plan)]

    def _checked(self, out: Tensor) -> Tensor:
        if (out.shape, out.dtype) != self._due:
            case, name = self.case, self.implementation.declaration.name
            found = f"{tuple(out.shape)} of {str(out.dtype).removeprefix('torch.')}"
            due = f"{tuple(self._due[0])} of {case.output_dtype}"
            raise PutBackError(f"{name} returned {found}, not {due}, for {case.label()}")
        return out

    @functools.cached_property
    def _due(self) -> tuple[torch.Size, torch.dtype]:
        case = self.case
        shape = torch.Size((case.batch, case.heads_q, case.seqlen_q, case.head_dim_v))
        return shape, getattr(torch, case.output_dtype)


class Delivered:
    """The addresses of the last outputs, to detect one that is overwritten while the model still holds it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._outputs: collections.deque[tuple[int, StorageWeakRef]] = collections.deque(maxlen=_OUTPUTS)

    def add(self, out: Tensor, given: Sequence[Tensor]) -> None:
        """Remember an output; it may share memory with the queries, keys and values that it was computed from.

        Raises:
            PutBackError: if it overwrites an earlier output that the model still holds.
        """
        memory = out.untyped_storage()
        place = memory.data_ptr()
        for earlier, its in self._outputs:
            is_needed = place == earlier and not its.expired()  # type: ignore[no-untyped-call]  # torch's
            if is_needed and all(place != x.untyped_storage().data_ptr() for x in given):
                raise PutBackError(
                    f"{self._name} returned the memory of an earlier output, which the model may still need"
                )
        self._outputs.append((place, StorageWeakRef(memory)))  # type: ignore[no-untyped-call]  # torch's


class _Explicit(torch.autograd.Function):
    """Autograd function with the implementation's own backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ready: ReadyCall) -> Tensor:
        q, k, v = q.detach(), k.detach(), v.detach()
        out, lse = ready.forward(q, k, v)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.ready = ready
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        said = ctx.ready.implementation.declaration
        if _must_be_copied(dout, said):
            dout = dout.contiguous()
        with autocast_off(dout.device.type):
            return (*ctx.ready.backward(dout, *ctx.saved_tensors), None)


def made_ready(implementation: Implementation, case: Case, call: AttentionCall) -> ReadyCall:
    """Prepare an implementation for a call; raises what its ``prepare`` hook raises."""
    said = implementation.declaration
    tensors = [laid_out(x.detach(), said.layout) for x in (call.q, call.k, call.v)]
    copied = [_must_be_copied(x, said) for x in tensors]
    plan = None
    if implementation.prepare_hook is not None:
        q, k, v = (x.contiguous() if copy else x for x, copy in zip(tensors, copied, strict=True))
        plan = implementation.prepare_hook(case, _operands(implementation, case, call, q, k, v))
    return ReadyCall(implementation, case, plan, (copied[0], copied[1], copied[2]))


def _operands(
    implementation: Implementation, case: Case, call: AttentionCall, q: Tensor, k: Tensor, v: Tensor
) -> Operands:
    said = implementation.declaration
    more: dict[str, Tensor] = {}
    if call.sinks is not None:
        kept = torch.float64 if case.dtype == "float64" else torch.float32
        more["sinks"] = call.sinks.detach().reshape(-1).to(kept)
    if case.needs_gradients:
        shape = (case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)
        more["dout"] = laid_out(q.new_zeros(shape), said.layout).contiguous()
    given = {"q": q, "k": k, "v": v} | more
    return Operands(**{name: _to_framework(x, said.framework) for name, x in given.items()})


def _must_be_copied(tensor: Tensor, said: Declaration) -> bool:
    """Whether a tensor in the declared layout has strides that the implementation does not declare."""
    if tensor.is_contiguous():
        return False
    declared = {*said.strides}
    tokens, heads = {"bhsd": (2, 1), "bshd": (1, 2), "packed": (0, 1)}[said.layout]
    if tensor.transpose(tokens, heads).is_contiguous():
        return "transposed" not in declared
    needed = _VIEWS | ({"expanded_kv"} if 0 in tensor.stride() else set())
    return tensor.stride(-1) != 1 or not needed <= declared


def _to_framework(tensor: Tensor, framework: Framework) -> Any:
    """Convert a tensor to the framework's array, sharing memory; JAX may copy."""
    if framework == "torch":
        return tensor
    array = tensor.detach().numpy()
    if framework == "numpy":
        return array
    import jax.numpy as jnp

    return jnp.asarray(array)


def _to_torch(array: Any, like: Tensor) -> Tensor:
    """Convert an implementation's output to a tensor.

    Raises:
        TypeError: if it is not an array.
    """
    if isinstance(array, torch.Tensor):
        return array
    if not hasattr(array, "__array__"):
        raise TypeError(f"it returned {type(array).__name__}, not a tensor")
    return torch.from_numpy(np.array(array, copy=not isinstance(array, np.ndarray))).to(like.device)
