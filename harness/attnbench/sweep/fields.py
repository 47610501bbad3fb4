"""The fields that a scenario or the command line may set: a case's own, and two shorthands."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from attnbench.cases.case import CHOICES, FIELDS, FILE_INPUTS, INPUT_FAMILIES
from attnbench.sweep.sizes import parse_range, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTHANDS: dict[str, tuple[str, ...]] = {"seqlen": ("seqlen_q", "seqlen_kv"), "heads": ("heads_q", "heads_kv")}
NAMES: tuple[str, ...] = (*FIELDS, *SHORTHANDS)

_FLOATS = ("softcap", "scale")
_LISTS = ("document_lengths", "kv_lengths")
_TEXTS = ("inputs",)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where something is close, else nothing."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def unknown_field(name: str) -> str | None:
    """Why ``name`` is not a field, or ``None``."""
    return None if name in NAMES else f"unknown field {name!r}{did_you_mean(name, NAMES)}"


def expand_shorthand(name: str, value: object) -> dict[str, object]:
    """``seqlen = 128`` as ``{"seqlen_q": 128, "seqlen_kv": 128}``; other fields as they are."""
    return dict.fromkeys(SHORTHANDS.get(name, (name,)), value)


def parse_value(name: str, value: object) -> object:
    """A field's value as TOML or the command line gave it, in the type that a case has.

    Raises:
        ValueError: with a sentence, when it is no value of this field.
    """
    if name in CHOICES:
        return _choice(name, value, CHOICES[name])
    if name in _TEXTS:
        if isinstance(value, str) and value.startswith(FILE_INPUTS):
            return value
        return _choice(name, value, INPUT_FAMILIES)
    if name == "document_causal":
        return _boolean(name, value)
    if name in _FLOATS:
        return _float(name, value)
    if name in _LISTS:
        return _list(name, value)
    return _integer(name, value)


def parse_values(name: str, value: object) -> list[object]:
    """As :func:`parse_value`; a range of doublings gives several values."""
    if isinstance(value, str) and name not in CHOICES and name not in _TEXTS:
        sizes = parse_range(value)
        if sizes is not None:
            return list(sizes)
    return [parse_value(name, value)]


def _choice(name: str, value: object, known: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    raise ValueError(f"{value!r} is no {name}{hint} (there are {', '.join(known)})")


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError(f"{value!r} is no value of {name}: true or false")


def _float(name: str, value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        return float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no value of {name}: a number") from None


def _integer(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    size = parse_size(value) if isinstance(value, str) else None
    if size is None:
        raise ValueError(f"{value!r} is no value of {name}: an integer, or a size such as 16k")
    return size


def _list(name: str, value: object) -> list[int]:
    items = value.split("+") if isinstance(value, str) else value
    if not isinstance(items, list) or not items:
        raise ValueError(f"{value!r} is no value of {name}: a list of lengths (3+5 on the command line)")
    return [_integer(name, item) for item in items]
