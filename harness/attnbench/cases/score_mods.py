"""Modifications of the scaled scores: one, or several joined by ``&``, in the order in which they are applied.

That order is FlashAttention-2's (``csrc/flash_attn/src/flash_fwd_kernel.h``: the cap, then ALiBi in the mask) and
Gemma 2's (``softcap`` before the mask is added): scores are capped first, biases are added to what the cap leaves, then
the mask hides, and a sink takes part in the softmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SCORE_MODS: tuple[str, ...] = ("none", "softcap", "alibi", "relative_bias", "bias", "sink")
"""In the order in which they are applied; those that add something may change places."""


def in_order(names: Iterable[str]) -> str:
    """The one way to write these modifications: each once, in their order; ``none`` changes nothing."""
    chosen = {*names} - {"none"}
    return " & ".join(name for name in SCORE_MODS if name in chosen) or "none"


def names_in(score_mod: str) -> tuple[str, ...]:
    """The names between the ``&``, as they are written."""
    return tuple(name.strip() for name in score_mod.split("&"))


def canonical(score_mod: str) -> str:
    """The canonical spelling; an unknown name is returned unchanged, to be refused later."""
    names = names_in(score_mod)
    return in_order(names) if {*names} <= {*SCORE_MODS} else score_mod
