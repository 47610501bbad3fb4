"""Makes an implementation of a ``torch.nn.Module`` that computes attention, with or without its projections."""

from __future__ import annotations

import copy
import inspect
import math
from typing import TYPE_CHECKING, Any

from attnbench.cases.masks import dense_mask
from attnbench.registry.implementation import DeclarationError, Implementation, attention
from attnbench.registry.projections import Projections, UnknownParameterError, find_projections
from attnbench.registry.signature import documentation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.nn import Module

    from attnbench.cases.case import Case
    from attnbench.registry.operands import Operands

_MASKS = ("attn_mask", "attention_mask", "mask")
_SCALES = ("scale", "scaling")
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def module(
    module: Module,
    *,
    name: str,
    heads: int | None = None,
    load: Callable[[Module, Operands], object] | None = None,
    **declared: Any,
) -> Implementation:
    """Declare a module to be an implementation. Assign the result to a variable of a plug-in's file.

    Its ``forward`` takes queries, keys and values. A module without parameters is a core: it receives the tensors of
    attention in the declared layout. A module with parameters is multi-head attention: it receives the inputs of its
    projections, each (batch, seqlen, embed_dim); its copy gets the case's weights, and biases of zero; and it refuses
    cases of other sizes than its own. It returns the output alone, or as the first of several values.

    These further parameters of ``forward`` are recognised by name:

    - ``attn_mask``, ``attention_mask`` or ``mask``: 0 or -inf in the dtype of the queries, (seqlen_q, seqlen_kv), or
      (batch, 1, seqlen_q, seqlen_kv) if it varies in the batch;
    - ``scale`` or ``scaling``; ``case``; ``need_weights``, which is false.

    A copy of the module is called, in evaluation mode and with frozen parameters: gradients are those of its three
    inputs.

    Args:
        module: computes attention.
        name: ``family/variant``.
        heads: number of query heads; by default the module's ``num_heads`` or a similar attribute.
        load: copies the weights ``w_q``, ``w_k``, ``w_v`` (embed_dim, heads * dim) and ``w_o`` (heads * dim, embed_dim)
            into the module; by default into parameters with names of common models (``q_proj``, ``in_proj_weight``,
            ``out_proj``, ...).
        declared: further arguments of :func:`attnbench.attention`.

    Raises:
        DeclarationError: if it cannot be called like this, has parameters other than projections, or declares something
            that attnbench does not know.
    """
    asked = _Forward.of(module, name)
    projections = None
    if any(True for _ in module.parameters()):
        declared.setdefault("operators", ("multi_head_attention",))
        heads = heads or _heads_of(module, name)
        if getattr(module, "batch_first", True) is False:
            raise DeclarationError(f"{name}: its batch_first is false, and the inputs are (batch, seqlen, embed_dim)")
        try:
            projections = None if load else find_projections(module)
        except UnknownParameterError as error:
            raise DeclarationError(f"{name}: {error}; give load=, which copies the case's weights into it") from error
    if asked.mask is None and set(declared.get("masks", ())) - {"none"}:
        raise DeclarationError(f"{name}: its forward takes no mask (none of {', '.join(_MASKS)})")
    several = bool(declared.get("returns_lse"))

    def call(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: _Plan) -> Any:
        result = plan.module(q, k, v, **plan.arguments)
        return result[0] if isinstance(result, tuple | list) and not several else result

    call.__doc__ = documentation(module)
    made = attention(name, **declared)(call)
    made.supports(lambda case, device: _refusal(case, asked, projections, heads))
    made.prepare(lambda case, operands: _Plan(module, case, operands, asked, load or projections))
    return made


class _Forward:
    """The known parameters of ``forward`` after queries, keys and values."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.mask = next((one for one in _MASKS if one in names), None)
        self.scale = next((one for one in _SCALES if one in names), None)

    @classmethod
    def of(cls, module: Module, name: str) -> _Forward:
        """Read the signature of a module's ``forward``.

        Raises:
            DeclarationError: if it does not take three inputs, or requires unknown parameters.
        """
        parameters = list(inspect.signature(module.forward).parameters.values())
        inputs = [one for one in parameters if one.kind in _POSITIONAL][:3]
        if len(inputs) < 3 or inputs[1].name in _MASKS or inputs[2].name in _MASKS:
            raise DeclarationError(
                f"{name}: its forward must take queries, keys and values, which differ here, and takes "
                f"({', '.join(one.name for one in parameters)})"
            )
        more = [one for one in parameters[3:] if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        known = {*_MASKS, *_SCALES, "case", "need_weights"}
        needed = [one.name for one in more if one.default is one.empty and one.name not in known]
        if needed:
            raise DeclarationError(f"{name}: its forward needs {', '.join(needed)}, which attnbench does not know")
        return cls([one.name for one in more])


class _Plan:
    """The module's copy for a case, with the arguments of its call."""

    def __init__(
        self,
        module: Module,
        case: Case,
        operands: Operands,
        asked: _Forward,
        load: Callable[[Module, Operands], object] | None,
    ) -> None:
        import torch

        like = operands.q
        copied = copy.deepcopy(module).to(like.device, like.dtype).eval()
        self.module = copied.requires_grad_(requires_grad=False)
        if load is not None:
            with torch.no_grad():
                load(self.module, operands)
        given = {"case": case, "need_weights": False}
        self.arguments: dict[str, object] = {name: value for name, value in given.items() if name in asked.names}
        if asked.scale:
            self.arguments[asked.scale] = case.scale
        if asked.mask and case.mask != "none":
            self.arguments[asked.mask] = additive_mask(self.module, case, like)


def additive_mask(module: Module, case: Case, like: Tensor) -> Tensor:
    """Return a mask of 0 for visible keys and -inf for others, in the shape that the module takes."""
    import torch

    seen = torch.from_numpy(dense_mask(case)).to(like.device)  # (batch or 1, 1, seqlen_q, seqlen_kv)
    mask = torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, -math.inf)
    if len(mask) == 1:
        return mask[0, 0]
    if isinstance(module, torch.nn.MultiheadAttention):  # a mask for each head
        return mask.expand(-1, case.heads_q, -1, -1).flatten(0, 1)
    return mask


def _refusal(case: Case, asked: _Forward, projections: Projections | None, heads: int | None) -> str | None:
    if asked.scale is None and not math.isclose(case.scale, 1 / math.sqrt(case.head_dim), rel_tol=1e-12):
        return f"its forward takes no scale, and the case's is not 1 / sqrt(head_dim) but {case.scale:g}"
    if heads is not None and case.heads_q != heads:
        return f"the module has {heads} heads, the case {case.heads_q}"
    return None if projections is None else projections.refusal(case)


def _heads_of(module: Module, name: str) -> int:
    for attribute in _HEADS:
        found = getattr(module, attribute, None)
        if isinstance(found, int):
            return found
    raise DeclarationError(f"{name}: the module does not say how many heads it has: give heads=")
