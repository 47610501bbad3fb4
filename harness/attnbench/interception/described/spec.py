"""Describes a call as a case."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from attnbench.cases.case import CaseError, make_case
from attnbench.cases.masks import dense_mask
from attnbench.cases.score_mods import in_order
from attnbench.interception.described.known_masks import KnownMasks, SplitMask
from attnbench.interception.described.masks import MaskFields, recognised

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.interception.call import AttentionCall

HIDDEN = -1e4
"""The largest value of a float mask that counts as hiding a key: its probability underflows even in float64, unless
scores reach thousands. The lowest float16 number, and the customary -10000, do not exceed it."""


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a call cannot be described as a case; one sentence."""

    sentence: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CallSpec:
    """A call as an ``attention`` case, without its mode and its files."""

    batch: int
    heads_q: int
    heads_kv: int
    seqlen_q: int
    seqlen_kv: int
    head_dim: int
    head_dim_v: int
    dtype: str
    scale: float
    mask: MaskFields
    score_mod: str = "none"
    softcap: float | None = None
    bias: Tensor | None = None
    """Broadcastable to (batch, heads_q, seqlen_q, seqlen_kv), -inf where a head does not see a key that another does;
    ``None`` unless ``score_mod`` has ``bias``."""
    memory: str = "bhsd"
    """Memory layout of Q, K and V in the model: contiguous as ``bhsd`` or ``bshd``, or ``q bhsd, k bshd, v strided``.

    It is not part of a case, whose tensors have the layout that an implementation declares.
    """

    def fields(self) -> dict[str, object]:
        """Return keyword arguments of :func:`make_case`, without ``mode``, ``mask_file`` and ``bias_file``."""
        others = ("mask", "bias", "memory")
        said = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in others}
        return {name: value for name, value in said.items() if value is not None} | self.mask.fields()


def described(call: AttentionCall, known: KnownMasks | None = None) -> CallSpec | Reason:
    """Return the case that describes the call exactly, or the reason why no case does.

    Dropout is left out, as captured cases are timed without it.

    ``known`` caches masks that were recognised before.
    """
    q, k, v = call.q, call.k, call.v
    problem = _problem(call)
    if problem is not None:
        return Reason(problem)
    hidden_and_added = _split(call, KnownMasks() if known is None else known)
    if isinstance(hidden_and_added, Reason):
        return hidden_and_added
    mask, bias = hidden_and_added
    there = {"softcap": call.softcap is not None, "bias": bias is not None, "sink": call.sinks is not None}
    spec = CallSpec(
        batch=q.shape[0],
        heads_q=q.shape[1],
        heads_kv=k.shape[1],
        seqlen_q=q.shape[2],
        seqlen_kv=k.shape[2],
        head_dim=q.shape[3],
        head_dim_v=v.shape[3],
        dtype=str(q.dtype).removeprefix("torch."),
        scale=call.scale,
        mask=mask,
        score_mod=in_order(mod for mod, is_there in there.items() if is_there),
        softcap=call.softcap,
        bias=bias,
        memory=_memory(q, k, v),
    )
    try:
        make_case(**(spec.fields() | _WITHOUT_FILES))
    except CaseError as error:
        return Reason(str(error))
    return spec


_WITHOUT_FILES = {"mask": "none", "score_mod": "none"}
"""Fields for validation: masks are checked when they are recognised, and files do not exist yet."""


def _memory(*tensors: Tensor) -> str:
    found = [_order(x) for x in tensors]
    return (
        found[0]
        if len({*found}) == 1
        else ", ".join(f"{name} {order}" for name, order in zip("qkv", found, strict=True))
    )


def _order(x: Tensor) -> str:
    if x.is_contiguous():
        return "bhsd"
    return "bshd" if x.transpose(1, 2).is_contiguous() else "strided"


def _problem(call: AttentionCall) -> str | None:
    """Return why queries, keys and values cannot belong to a case, or ``None``."""
    q, k, v = call.q, call.k, call.v
    if not q.dtype == k.dtype == v.dtype:
        return f"its dtypes differ: {q.dtype}, {k.dtype}, {v.dtype}"
    if 0 in (*q.shape, *k.shape, *v.shape):
        return "a tensor is empty"
    if k.shape[1] != v.shape[1] or k.shape[2] != v.shape[2] or k.shape[3] != q.shape[3]:
        return f"its shapes are not attention's: {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
    if not q.shape[0] == k.shape[0] == v.shape[0]:
        return f"its batches differ: {q.shape[0]}, {k.shape[0]}, {v.shape[0]}"
    if call.sinks is not None and call.sinks.numel() != q.shape[1]:
        return f"{call.sinks.numel()} sinks for {q.shape[1]} heads"
    if any(x.is_nested or x.is_meta for x in (q, k, v)):
        return "its tensors are nested, or have no values"
    return None


def _split(call: AttentionCall, known: KnownMasks) -> tuple[MaskFields, Tensor | None] | Reason:
    """Return the mask of the call, and the bias that is added to the scores."""
    bias = None if call.bias is None or not bool(call.bias.any()) else call.bias
    if bias is not None and not bool((bias < torch.inf).all()):
        return Reason("its bias holds NaN or +inf")
    mask = call.mask
    if mask is None:
        return _by_rule(call), bias
    if mask.dtype != torch.bool:
        largest = mask.amax(-1)
        if not bool((largest < torch.inf).all()):
            return Reason("its mask holds NaN or +inf")
        if bool((largest <= HIDDEN).all()):  # equal values in a row change no probability, however low
            return Reason("its mask would hide every key from every query")
    sizes = call.q.shape[0], call.q.shape[2], call.k.shape[2]
    split = known.split(mask, (call.causal, call.window, sizes), lambda: _split_mask(mask, call))
    added = split.bias
    return split.mask, added if bias is None else bias if added is None else bias + added


def _split_mask(mask: Tensor, call: AttentionCall) -> SplitMask:
    """Split a mask into the keys that any head sees, and a bias.

    The bias is -inf where one head does not see a key that another sees: cases have one mask for all heads.
    """
    visible = _visible(mask)
    of_any = visible.any(1, keepdim=True)
    added = torch.zeros((), device=mask.device) if mask.dtype == torch.bool else torch.where(visible, mask, 0.0)
    if not bool((visible == of_any).all()):
        added = torch.where(of_any & ~visible, -torch.inf, added)
    return SplitMask(_recognised(of_any[:, 0], call), added if bool(added.any()) else None)


def _visible(mask: Tensor) -> Tensor:
    """Return a boolean mask, True where a query sees a key."""
    return mask if mask.dtype == torch.bool else mask > HIDDEN


def _by_rule(call: AttentionCall) -> MaskFields:
    """Return the mask given by ``causal`` and ``window``."""
    corners_coincide = call.q.shape[2] == call.k.shape[2]
    alignment = "top_left" if corners_coincide or call.causal is None else call.causal
    if call.window is not None and call.window <= call.k.shape[2]:
        right = 0 if call.causal else call.window - 1
        return MaskFields(mask="sliding_window", alignment=alignment, window_left=call.window - 1, window_right=right)
    if call.causal is None or (call.causal == "bottom_right" and call.q.shape[2] == 1):
        return MaskFields()
    return MaskFields(mask="causal", alignment=alignment)


def _recognised(visible: Tensor, call: AttentionCall) -> MaskFields:
    """Recognise a mask (batch or 1, seqlen_q or 1, seqlen_kv or 1), intersected with that of :func:`_by_rule`."""
    sizes = call.q.shape[0], call.q.shape[2], call.k.shape[2]
    seen = visible.numpy(force=True)
    rule = _by_rule(call)
    if rule.mask != "none":
        seen = seen & dense_mask(make_case(seqlen_q=sizes[1], seqlen_kv=sizes[2], **rule.fields()))[0]
    return recognised(seen, *sizes)
