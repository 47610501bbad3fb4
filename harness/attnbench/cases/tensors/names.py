"""The names that other programs give to the tensors of attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.tensors.file import names_of
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from pathlib import Path

NAMES: dict[str, tuple[str, ...]] = {
    "q": ("q", "query", "queries", "query_states", "query_layer", "q_proj"),
    "k": ("k", "key", "keys", "key_states", "key_layer", "k_proj"),
    "v": ("v", "value", "values", "value_states", "value_layer", "v_proj"),
    "dout": ("dout", "do", "d_out", "grad_out", "grad_output", "out_grad"),
    "mask": ("mask", "attn_mask", "attention_mask"),
    "blocks": ("blocks", "mask_blocks", "block_mask"),
    "bias": ("bias", "attn_bias", "attention_bias", "position_bias"),
}
"""By attnbench's name; the first name that the file holds is used."""


def name_in(path: Path, name: str) -> str:
    """Return a file's name for a tensor: one of :data:`NAMES`, in any letter case, optionally after a dotted prefix.

    Raises:
        KeyError: if it has none, or several that match equally.
        OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile: if the file cannot be read.
    """
    there = names_of(path)
    for known in ({one: one.lower() for one in there}, {one: one.lower().rpartition(".")[2] for one in there}):
        for alias in NAMES[name]:
            alike = [one for one, said in known.items() if said == alias]
            if len(alike) > 1:
                raise KeyError(f"{' and '.join(map(shown, alike[:3]))} could each be {name}: rename the one that is")
            if alike:
                return alike[0]
    raise KeyError(f"there is no {name}, only {shown(', '.join(there))}" if there else f"there is no {name}")
