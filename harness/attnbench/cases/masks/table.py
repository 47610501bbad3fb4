"""The kinds of masks, and the text of a mask: one kind, or several joined by ``&``, which intersect."""

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
"""All kinds by name, in the order in which an intersection lists them."""
MASK_KINDS: tuple[str, ...] = tuple(MASKS)
"""Every kind, for the declaration of an implementation that takes a dense mask."""
PARAMETERS: dict[str, Parameter] = {
    parameter.name: parameter for kind in MASKS.values() for parameter in kind.parameters
}


def mask_names(mask: str) -> tuple[str, ...]:
    """Return the names between the ``&``, unchecked and in the given order."""
    return tuple(name.strip() for name in mask.split("&"))


def intersection(names: Iterable[str]) -> str:
    """Return the canonical text of a mask of these kinds: each once, in the table's order, without ``none``."""
    chosen = {*names} - {"none"}
    return " & ".join(name for name in MASKS if name in chosen) or "none"


def canonical(mask: str) -> str:
    """Return the canonical spelling of a mask; an unknown kind is returned unchanged, to be refused later."""
    names = mask_names(mask)
    return intersection(names) if {*names} <= {*MASKS} else mask


@functools.cache
def kinds_of(mask: str) -> tuple[Kind, ...]:
    """Return the kinds that a case's mask is made of."""
    return tuple(MASKS[name] for name in mask_names(mask))


def instead_of(mask: str, name: str, other: str) -> str:
    """Return the mask with its kind ``name`` replaced by the mask ``other``."""
    return intersection({*mask_names(mask)} - {name} | {*mask_names(other)})
