"""The fields that a scenario or the command line may set: those of a case, and two shorthands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.cases.case import FIELDS
from attnbench.cases.checks import too_large
from attnbench.cases.choices import CHOICES, INPUT_FAMILIES, MAY_BE_ZERO
from attnbench.cases.masks.table import PARAMETERS, intersection, mask_names
from attnbench.cases.requests import SEGMENT, implied, mistake_in_requests, parse_requests, written
from attnbench.cases.score_mods import in_order, names_in
from attnbench.cases.tensors.source import FILE_INPUTS, mistake_in
from attnbench.sweep.nearest import did_you_mean
from attnbench.sweep.sizes import RANGE, SIZE, parse_range, parse_size
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic.json_schema import JsonSchemaValue

SHORTHANDS: dict[str, tuple[str, ...]] = {"seqlen": ("seqlen_q", "seqlen_kv"), "heads": ("heads_q", "heads_kv")}
NAMES: tuple[str, ...] = (*FIELDS, *SHORTHANDS)

_NUMBERS = ("softcap", "scale", "dropout")
_LISTS = tuple(name for name, parameter in PARAMETERS.items() if parameter.form == "integers")
_FLAGS = ("bias_grad", *(name for name, parameter in PARAMETERS.items() if parameter.form == "boolean"))
_LEAST = {name: parameter.least for name, parameter in PARAMETERS.items()}
_LEAST |= dict.fromkeys(("seed", "seqlen", *MAY_BE_ZERO), 0)
_TENSORS = ("bias_file", *(name for name, parameter in PARAMETERS.items() if parameter.form == "tensor"))
_BLOCKS = tuple(name for name, parameter in PARAMETERS.items() if parameter.form == "text")
_REQUESTS = tuple(name for name, parameter in PARAMETERS.items() if parameter.form == "requests")
_BATCH_SCHEMA = {"type": "string", "pattern": f"^{SEGMENT}(_{SEGMENT})*$"}
_TEXTS = ("inputs", *_TENSORS, *_BLOCKS, *_REQUESTS)


def is_quantity(name: str) -> bool:
    """Whether values of this field are ordered, so that a rule may compare them."""
    return name in NAMES and name not in (*CHOICES, *_LISTS, *_FLAGS, *_TEXTS)


def fields_of(name: str) -> tuple[str, ...]:
    """Return the fields of a case that a name sets: those of a shorthand, or the field itself."""
    return SHORTHANDS.get(name, (name,))


def expand_shorthands(table: Mapping[str, object]) -> dict[str, object]:
    """Expand shorthands to fields of a case: ``seqlen = 128`` sets both lengths, unless ``seqlen_q`` is set as well.

    ``batch = "2q2k_32q1s1k"`` sets the requests, and the fields that follow from them.
    """
    requests = next((table[name] for name in ("batch", *_REQUESTS) if isinstance(table.get(name), str)), None)
    fields = {} if requests is None else {**implied(requests), "requests": requests}
    fields |= {field: value for name, value in table.items() if name in SHORTHANDS for field in SHORTHANDS[name]}
    return fields | {
        n: v for n, v in table.items() if n not in SHORTHANDS and not (n == "batch" and isinstance(v, str))
    }


def parse_value(name: str, value: object) -> object:
    """Convert a field's value from TOML or the command line to the type that a case has.

    Raises:
        ValueError: if it is not a value of this field; with a sentence.
    """
    if name == "mask" and isinstance(value, str):
        return intersection([_choice(kind, CHOICES["mask"]) for kind in mask_names(value)])
    if name == "score_mod" and isinstance(value, str):
        return in_order([_choice(mod, CHOICES["score_mod"]) for mod in names_in(value)])
    if name in CHOICES:
        return _choice(value, CHOICES[name])
    if name in (*_TENSORS, *_BLOCKS):
        return _text(value, PARAMETERS[name].mistake if name in PARAMETERS else mistake_in)
    if name in _REQUESTS or (name == "batch" and isinstance(value, str) and "q" in value):
        return written(parse_requests(_text(value, mistake_in_requests)))
    if name in _TEXTS:
        if isinstance(value, str) and value.startswith(FILE_INPUTS):
            return value
        return _choice(value, INPUT_FAMILIES)
    if name in _FLAGS:
        return _boolean(value)
    if name == "dropout":
        return 0.0 if value in (0, "0") and value is not False else _number(value)
    if name in _NUMBERS:
        return _number(value)
    if name in _LISTS:
        return _list(name, value)
    return _integer(name, value)


def parse_values(name: str, value: object) -> list[object]:
    """Convert a value like :func:`parse_value`, except that a range of doublings such as ``128..16k`` gives several."""
    if isinstance(value, str) and is_quantity(name) and name not in _NUMBERS:
        sizes = parse_range(value)
        if sizes is not None:
            return [_integer(name, size) for size in sizes]
    return [parse_value(name, value)]


def value_schema(name: str, *, ranges: bool = False) -> JsonSchemaValue:
    """Return the JSON Schema of values that :func:`parse_value` accepts (with ``ranges``: :func:`parse_values`)."""
    if name in ("mask", "score_mod"):
        kind = f"({'|'.join(CHOICES[name])})"
        return {"anyOf": [{"enum": list(CHOICES[name])}, {"type": "string", "pattern": f"^{kind}( *& *{kind})+$"}]}
    if name in CHOICES:
        return {"enum": list(CHOICES[name])}
    if name in (*_TENSORS, *_BLOCKS):
        return {"type": "string", "minLength": 1}
    if name in _REQUESTS:
        return dict(_BATCH_SCHEMA)
    if name in _TEXTS:
        return {"anyOf": [{"enum": list(INPUT_FAMILIES)}, {"type": "string", "pattern": f"^{FILE_INPUTS}"}]}
    if name in _FLAGS:
        return {"type": "boolean"}
    if name == "dropout":
        return {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
    if name in _NUMBERS:
        return {"type": "number", "exclusiveMinimum": 0}
    least = _LEAST.get(name, 1)
    written = f"{SIZE}|{RANGE}" if ranges else f"-?{SIZE}" if least < 0 else SIZE
    size: JsonSchemaValue = {
        "anyOf": [{"type": "integer", "minimum": least}, {"type": "string", "pattern": f"^({written})$"}]
    }
    if name == "batch":
        size["anyOf"].append(_BATCH_SCHEMA)
    return {"type": "array", "items": size, "minItems": 1} if name in _LISTS else size


def _choice(value: object, known: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in known:
        return value
    hint = did_you_mean(value, known) if isinstance(value, str) else ""
    raise ValueError(f"{shown(value)} is none of {', '.join(known)}{hint}")


def _text(value: object, mistake_of: Callable[[object], str | None]) -> str:
    if mistake := mistake_of(value):
        raise ValueError(f"{shown(value)} {mistake}")
    return str(value)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError(f"{shown(value)} is not true or false")


def _number(value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{shown(value)} is not a number > 0")
    return number


def _integer(name: str, value: object) -> int:
    size = value
    if isinstance(value, str):
        parsed = parse_size(value.removeprefix("-"))
        size = -parsed if parsed is not None and value.startswith("-") else parsed
    least = _LEAST.get(name, 1)
    if not isinstance(size, int) or isinstance(size, bool) or size < least:
        also = ", nor requests such as 2q2k_32q1s1k" if name == "batch" else ""
        raise ValueError(f"{shown(value)} is not an integer >= {least}, or a size such as 16k{also}")
    if problem := too_large(name, size):
        raise ValueError(problem)
    return size


def _list(name: str, value: object) -> list[int]:
    items = value.split("+") if isinstance(value, str) else value
    if not isinstance(items, list) or not items:
        raise ValueError(f"{shown(value)} is not a list of lengths, such as [3, 5] (3+5 on the command line)")
    return [_integer(name, item) for item in items]
