"""Modifications of the scaled scores: one, or several joined by ``&``, in the order in which they are applied.

That order is FlashAttention-2's (``csrc/flash_attn/src/flash_fwd_kernel.h``: the cap, then ALiBi in the mask) and
Gemma 2's (``softcap`` before the mask is added): scores are capped first, then biases are added, then the mask is
applied, and a sink takes part in the softmax.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SCORE_MODS: tuple[str, ...] = ("none", "softcap", "alibi", "relative_bias", "bias", "sink")
"""In the order in which they are applied; the order among biases does not matter."""


def in_order(names: Iterable[str]) -> str:
    """Return the canonical text of these modifications: each once, in order of application, without ``none``."""
    chosen = {*names} - {"none"}
    return " & ".join(name for name in SCORE_MODS if name in chosen) or "none"


def names_in(score_mod: str) -> tuple[str, ...]:
    """Return the names between the ``&``, unchecked and in the given order."""
    return tuple(name.strip() for name in score_mod.split("&"))


def canonical(score_mod: str) -> str:
    """Return the canonical spelling; a text with an unknown name is returned unchanged, to be refused later."""
    names = names_in(score_mod)
    return in_order(names) if {*names} <= {*SCORE_MODS} else score_mod
