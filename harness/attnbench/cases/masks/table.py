"""The kinds of masks, and how a mask is written: one kind, or several joined by ``&``, which hide what any hides."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from attnbench.cases.masks.kinds.block_sparse import BlockSparse
from attnbench.cases.masks.kinds.causal import Causal
from attnbench.cases.masks.kinds.document import Document
from attnbench.cases.masks.kinds.key_padding import KeyPadding
from attnbench.cases.masks.kinds.left_padding import LeftPadding
from attnbench.cases.masks.kinds.none import NoMask
from attnbench.cases.masks.kinds.prefix_lm import PrefixLM
from attnbench.cases.masks.kinds.ragged import Ragged
from attnbench.cases.masks.kinds.sliding_window import SlidingWindow
from attnbench.cases.masks.kinds.tensor import Tensor
from attnbench.cases.masks.kinds.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnbench.cases.masks.kind import Kind, Parameter

MASKS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        NoMask(), Causal(), SlidingWindow(), PrefixLM(), Document(), KeyPadding(), LeftPadding(), Tree(), Tensor(),
        BlockSparse(), Ragged(),
    )
}  # fmt: skip
"""In the order in which an intersection names them."""
MASK_KINDS: tuple[str, ...] = tuple(MASKS)
"""Every kind: what an implementation declares that takes a mask written out."""
PARAMETERS: dict[str, Parameter] = {
    parameter.name: parameter for kind in MASKS.values() for parameter in kind.parameters
}


def mask_names(mask: str) -> tuple[str, ...]:
    """The names between the ``&``, as they are written."""
    return tuple(name.strip() for name in mask.split("&"))


def intersection(names: Iterable[str]) -> str:
    """The one way to write a mask of these kinds: each once, in the table's order; ``none`` hides nothing."""
    chosen = {*names} - {"none"}
    return " & ".join(name for name in MASKS if name in chosen) or "none"


def canonical(mask: str) -> str:
    """The canonical spelling of a mask; an unknown kind is returned unchanged, to be refused later."""
    names = mask_names(mask)
    return intersection(names) if {*names} <= {*MASKS} else mask


@functools.cache
def kinds_of(mask: str) -> tuple[Kind, ...]:
    """The kinds that a case's mask is made of."""
    return tuple(MASKS[name] for name in mask_names(mask))


def instead_of(mask: str, name: str, other: str) -> str:
    """The mask with another one in place of one of its kinds."""
    return intersection({*mask_names(mask)} - {name} | {*mask_names(other)})
