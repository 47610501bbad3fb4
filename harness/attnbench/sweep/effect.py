"""Finds fields that are set but used by no case: ``softcap = 30`` without ``score_mod`` is likely a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.cases.masks.table import MASKS

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from attnbench.cases.case import Case

DECIDING = frozenset(("batch", "mask", "score_mod", "kv_cache", "inputs", "seqlen", "seqlen_q", "seqlen_kv"))
"""Fields that determine which other fields a case uses."""
_NEEDS = {
    **{field.name: f"mask = {kind.name!r}" for kind in MASKS.values() for field in kind.parameters},
    "softcap": "score_mod = 'softcap'",
    "bias_file": "score_mod = 'bias'",
    "inputs_layout": "inputs = 'file:PATH'",
    "page_size": "kv_cache = 'paged'",
    "alignment": "unequal lengths, and a mask or a score modification that follows the diagonal",
}


class Effects:
    """Records which of the fields that were set are used by any case of a sweep."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], bool] = {}
        """Whether some case uses a field, by place and field."""

    def saw(self, case: Case, fields: Mapping[str, object], places: Mapping[str, str]) -> None:
        """Record a case, the fields that it was made of, and the place that set each of them."""
        for name, place in places.items():
            if not self._taken.get((place, name)):
                self._taken[place, name] = _takes(case, name, fields[name])

    def in_vain(self, fields: Container[str]) -> dict[str, list[str]]:
        """Return sentences on those of the given fields that no case used, by place."""
        found: dict[str, list[str]] = {}
        for (place, name), taken in self._taken.items():
            if not taken and name in fields:
                needs = f": it needs {_NEEDS[name]}" if name in _NEEDS else ""
                found.setdefault(place, []).append(f"{name} has no effect on any case{needs}")
        return found


def _takes(case: Case, name: str, given: object) -> bool:
    value = getattr(case, name)
    return value == given if name == "alignment" else value is not None or given == "none"
