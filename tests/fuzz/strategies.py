"""Strategies for inputs: valid ones with one mistake, and entirely wrong values."""

from __future__ import annotations

import functools
import io
import json
import math
import struct
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from attnbench.cases.choices import CHOICES, INPUT_FAMILIES
from attnbench.sweep.fields import NAMES
from tests.conftest import REPOSITORY

Json = Any

TEXTS = (
    "", " ", "\0", "\x1b[2J\x1b]0;a\x07", "a\r\nb", "\u202e\u200b\ufeff", "\ud800", "\uffff", "=cmd|' /C calc'!A0",
    "```\n| a", "<script>alert(1)</script>", "[red]a[/blue]", "::error::a", "../../a", "/etc/passwd", "a" * 5000,
    "(a|aa)+$X", "[", "naive/torch", "1e999", "nan", "-1", "9" * 400, "1k", "128..16k", "1..9999999m", "3+5", "> 4k",
    "file:", "file:\0", "file:/dev/zero", "causal & causal", "causal &", "{0}{x}", "%s%n", "true", "null", "cuda",
)  # fmt: skip
NUMBERS = (0, -1, 1, 2, 7, 64, 2**20, 2**31, 2**40, 2**53, 2**63, 10**400, 0.5, -0.0, 5e-324, 1e-9, 1e300)
NOT_FINITE = (math.inf, -math.inf, math.nan)

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=20))
scalars = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(NOT_FINITE), texts)
values: st.SearchStrategy[Json] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def _of_type(part: Json) -> st.SearchStrategy[Json]:
    """Return a strategy for other values of the same type."""
    if isinstance(part, list):
        inner = _of_type(part[0]) if part else scalars
        return st.lists(inner, max_size=4)
    if isinstance(part, bool):
        return st.booleans()
    if isinstance(part, int):
        return st.one_of(st.integers(1, 2**20), st.sampled_from(NUMBERS))
    if isinstance(part, float):
        return st.one_of(st.floats(1e-3, 1e18), st.sampled_from(NUMBERS))
    return texts if isinstance(part, str) else values


def nested(depth: int, leaf: Json) -> Json:
    """Return nested lists."""
    for _ in range(depth):
        leaf = [leaf]
    return leaf


@st.composite
def spoiled(draw: st.DrawFn, whole: Json) -> Json:
    """Draw a JSON value with one part replaced, removed or nested, or with a new part."""
    path: list[str | int] = []
    part = whole
    while isinstance(part, dict | list) and part and (not path or draw(st.integers(0, 3))):
        place = draw(st.sampled_from(sorted(part)) if isinstance(part, dict) else st.integers(0, len(part) - 1))
        path.append(place)
        part = part[place]
    if not path:
        return draw(values)
    copy = json.loads(json.dumps(whole))
    holder = functools.reduce(lambda held, place: held[place], path[:-1], copy)
    match draw(st.integers(0, 9)):
        case 0:
            del holder[path[-1]]
        case 1 if isinstance(holder, dict):
            holder[draw(texts)] = draw(values)
        case 2:
            holder[path[-1]] = nested(draw(st.sampled_from((1, 30, 200))), part)
        case 3:
            holder[path[-1]] = draw(values)
        case _:
            holder[path[-1]] = draw(_of_type(part))
    return copy


@st.composite
def bytes_spoiled(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw bytes with pieces removed, overwritten or inserted."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.sampled_from((0, 1, 2, 8, 100, len(whole)))))
        data[begin:end] = draw(st.one_of(st.binary(max_size=8), st.sampled_from(TEXTS).map(_bytes)))
    return bytes(data)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


# Scenarios: tables of known keys with odd values, written as TOML; and the bundled files, spoiled.


def toml(value: Json) -> str:
    """Return a value as TOML text, which may be invalid."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return '"null"' if value is None else json.dumps(value)


def _of_field(name: str) -> st.SearchStrategy[Json]:
    """Return a strategy for values of a field, most of them valid."""
    likely: st.SearchStrategy[Json] = st.one_of(st.integers(1, 9), st.sampled_from(("1k", "3..12", 0.5, True, [1, 2])))
    if name in CHOICES:
        likely = st.sampled_from(CHOICES[name])
        if name == "mask":
            likely = st.one_of(likely, st.builds("{} & {}".format, likely, likely))
    if name == "inputs":
        likely = st.sampled_from(INPUT_FAMILIES)
    return st.integers(0, 9).flatmap(lambda dice: likely if dice else values)


_of_fields = st.lists(st.sampled_from(NAMES), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: _of_field(name) for name in names})
)
_of_axes = st.lists(st.sampled_from(NAMES), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: st.lists(_of_field(name), min_size=1, max_size=3) for name in names})
)
_SCENARIO = {
    "defaults": _of_fields,
    "axes": _of_axes,
    "zip": st.lists(_of_axes, max_size=2),
    "shapes": st.dictionaries(texts, _of_fields, max_size=2),
    "exclude": st.lists(_of_fields, max_size=2),
    "limits": st.dictionaries(st.sampled_from(("time_s", "memory_gib", "max_samples", "a")), values, max_size=3),
    "extends": st.one_of(st.sampled_from(("quick", "masks", "fuzz", "fuzz.toml")), texts),
    "name": texts,
    "description": texts,
    "baseline": texts,
    "tags": st.lists(texts, max_size=2),
    "devices": st.lists(st.sampled_from(("cpu", "cuda", "tpu")), max_size=2),
    "stages": st.lists(st.sampled_from(("agreement", "time", "memory", "energy", "a")), max_size=3),
    "implementations": st.lists(st.sampled_from(("torch", "(a|aa)+$X", "[")), max_size=2),
    "a": values,
}
_tables = st.dictionaries(st.sampled_from(sorted(_SCENARIO)), st.none(), max_size=5).flatmap(
    lambda names: st.fixed_dictionaries({name: _SCENARIO[name] for name in names})
)
_BUNDLED = [path.read_bytes() for path in sorted((REPOSITORY / "scenarios").glob("*.toml"))]


def _written(table: Json) -> bytes:
    entries = table.items() if isinstance(table, dict) else [("a", table)]
    return _bytes("".join(f"{json.dumps(name)} = {toml(value)}\n" for name, value in entries))


_spoiled_tables = st.sampled_from(_BUNDLED).flatmap(lambda data: spoiled(tomllib.loads(data.decode()))).map(_written)
scenarios = st.one_of(
    _tables.map(_written), _spoiled_tables, _spoiled_tables, st.sampled_from(_BUNDLED).flatmap(bytes_spoiled)
)


def _on_line(name: str) -> st.SearchStrategy[str]:
    several = st.lists(_of_field(name).map(str), min_size=1, max_size=3)
    return several.map(lambda written: f"{name}={','.join(written)}")


axes = st.lists(st.one_of(*map(_on_line, NAMES), texts), max_size=4)

# Tensor files.

SHAPE = (1, 2, 4, 8)


def _npz() -> bytes:
    file = io.BytesIO()
    ones = np.ones(SHAPE, np.float32)
    np.savez(file, q=ones, k=ones, v=ones)
    return file.getvalue()


def safetensors(header: Json, length: int | None, data: bytes) -> bytes:
    """Return the bytes of a safetensors file, whose stated header length may be wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


_ENTRY = {"dtype": "F32", "shape": list(SHAPE), "data_offsets": [0, 256]}
_HEADER = dict.fromkeys("qkv", _ENTRY) | {"__metadata__": {"a": "b"}}
tensor_files = st.one_of(
    st.tuples(st.just(".npz"), bytes_spoiled(_npz())),
    st.tuples(
        st.just(".safetensors"),
        st.builds(
            safetensors,
            st.one_of(spoiled(_HEADER), bytes_spoiled(json.dumps(_HEADER).encode())),
            st.one_of(st.none(), st.sampled_from((0, 1, 8, 2**31, 2**63))),
            st.binary(max_size=8).map(lambda data: data + bytes(256)),
        ),
    ),
)

# Run files: those of tests of old schemas, and short measured ones, with some lines spoiled.


def _lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()[:12]]


_RUNS = [_lines(path) for path in sorted((REPOSITORY / "tests/store/golden").glob("*.jsonl"))]
_RUNS += [_lines(REPOSITORY / f"results/reference/{name}.jsonl") for name in ("h200", "quick", "scaling", "cpu-race")]


@st.composite
def run_files(draw: st.DrawFn) -> bytes:
    """Draw a run file whose lines are mostly still JSON."""
    lines = list(draw(st.sampled_from(_RUNS)))
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        index = draw(st.integers(0, len(lines) - 1))
        lines[index] = draw(spoiled(lines[index]))
    data = b"".join(_bytes(json.dumps(line, ensure_ascii=draw(st.booleans()))) + b"\n" for line in lines)
    return draw(bytes_spoiled(data)) if draw(st.integers(0, 7)) == 0 else data


# What hooks return.


class Odd:
    """An object whose every special method raises."""

    def _raise(self, *_: object) -> Any:
        raise ZeroDivisionError("odd")

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __hash__ = __getattr__ = __format__ = _raise


_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)
_SHAPES = (SHAPE, (), (0,), (1, 2, 4, 9), (1, 4, 2, 8), SHAPE[:3], (*SHAPE, 1))
tensors = st.one_of(
    st.builds(lambda shape, dtype: torch.ones(shape).to(dtype), st.sampled_from(_SHAPES), st.sampled_from(_DTYPES)),
    st.sampled_from([math.nan, math.inf, 1e30]).map(lambda value: torch.full(SHAPE, value)),
    st.just(torch.ones(SHAPE).to_sparse()),
    st.just(torch.ones(1).expand(SHAPE)),
    st.just(torch.ones(SHAPE, device="meta")),
    st.just(torch.ones(SHAPE, requires_grad=True)),
    st.just(np.ones(SHAPE, np.float32)),
    st.just(np.array(["a"], dtype=object)),
)
returned = st.one_of(
    tensors,
    st.tuples(tensors, tensors),
    st.lists(tensors, max_size=4),
    values,
    st.builds(Odd),
    st.sampled_from((Odd, print, NotImplemented, Ellipsis, b"\xff", range(3))),
    st.just(nested(5000, 1)),
    st.sampled_from((ValueError("\x1b[2J"), KeyError(), RecursionError(), UnicodeDecodeError("utf-8", b"", 0, 1, "a"))),
)
"""Return values of hooks; a drawn exception is raised instead of returned."""
