"""Reads run files strictly, except for a torn last line, which a run that was killed while writing leaves behind."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError

from attnbench.cases.tensors.source import FILE_INPUTS
from attnbench.errors import UsageError, first_mistake
from attnbench.store.fields import Cases, FieldError, members_of
from attnbench.store.header import Footer, Header, Part
from attnbench.store.record import SCHEMA_VERSION, Fields, Record
from attnbench.store.repro import Commands
from attnbench.untrusted.json_text import decode_json
from attnbench.untrusted.printable import in_one_line, may_act, printable_json, shown
from attnbench.untrusted.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pandas as pd

STDIN = "-"
_ON_RANKS = re.compile("@([0-9]+)$")
M = TypeVar("M", bound=BaseModel)
Line = dict[str, Any]
"""A parsed line of JSON, not yet checked."""


def _with_layout(line: Line) -> Line:
    """Upgrade a line from schema 7 to 8: tensors in files had the axes (batch, heads, seqlen, head_dim)."""
    inputs = line.get("inputs")
    return {**line, "inputs_layout": "bhsd"} if isinstance(inputs, str) and inputs.startswith(FILE_INPUTS) else line


UPGRADES: dict[int, Callable[[Line], Line]] = {
    1: lambda line: line,  # spread_rel was not measured
    2: lambda line: line,  # nor identities and figures of CUDA devices
    3: lambda line: line,  # no mask had a tree
    4: lambda line: line,  # energy was not measured
    5: lambda line: line,  # every budget had room for stored scores, and no verdict said that it was blind
    6: lambda line: line,  # all samples were taken in one go, whose interval is binomial
    7: _with_layout,  # no mask and no bias was a tensor
    8: lambda line: line,  # no call was shared by ranks, K and V were stored as they are, and no shape was empty
}
"""Functions that upgrade a line from schema n to schema n + 1."""

_SEVERAL_LINES = frozenset({"reason", "description"})
"""Fields of sentences, in which newlines are kept; all other texts are shown in one line."""

CELL = ("case_id", "implementation", "device", "replicate")
"""Fields that identify a cell."""

_ERROR_RATIOS = tuple(name for name in Record.model_fields if name.endswith("_error_ratio"))
_REQUIRED = frozenset(name for name, field in Record.model_fields.items() if field.is_required())
_BLANK: Fields = {name: None if field.is_required() else field.default for name, field in Record.model_fields.items()}
"""All fields in order. Records are filled into copies of it, so that they share one set of keys in memory."""


class RunFileError(UsageError):
    """A run file cannot be used. The message names the file and, if there is one, the line."""


@dataclasses.dataclass(frozen=True)
class RunFile:
    """The content of a run file."""

    path: str
    """Path that it was read from, safe to display; ``-`` is standard input."""
    header: Header
    records: list[Fields]
    """One per cell, in the order of running; absent fields are ``None``."""
    footers: list[Footer]
    """One per sitting that ended normally."""
    warnings: list[str]
    """Messages for the user: a torn line was dropped, or records are missing or duplicated."""
    machine: str = ""
    """Machine of this part, if the file holds several kinds of machines."""

    @property
    def name(self) -> str:
        """The path, with the machine if the file holds several."""
        return f"{self.path} on {self.machine}" if self.machine else self.path

    @property
    def is_complete(self) -> bool:
        """Whether every planned cell has its record."""
        return len(self.records) >= self.header.cells_planned

    @property
    def footer(self) -> Footer | None:
        """The last sitting's footer, or ``None`` if there is none."""
        return self.footers[-1] if self.footers else None


def read_run(path: str | Path) -> RunFile:
    """Read a run file; ``-`` is standard input.

    Raises:
        RunFileError: if it cannot be read, is not a run file, is damaged before its last line, or has a newer schema.
    """
    with without_collector():
        return _read_run(str(path))


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Disable the cyclic garbage collector: for objects that all stay alive, it takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read_run(path: str) -> RunFile:
    name = in_one_line(path)
    texts, said = _whole_lines(name, _read(path))
    if not texts:
        raise RunFileError(f"{name} is not a run file: it has no complete line")
    header = _header(name, texts[0])
    checked = _CheckedRecords(name, header)
    records: dict[tuple[str, ...], Fields] = {}
    surplus = 0
    footers: list[Footer] = []
    parts: list[Part] = []
    keys = header.machine_keys
    for number, text in enumerate(texts[1:], start=2):
        line = upgrade(_parse(name, number, text), name, number)
        kind = line.get("kind")
        if kind == "record":
            record = checked.record(number, line)
            key = (*(str(record[name]) for name in CELL), keys.get(record["run_id"], header.machine_key))
            surplus += key in records
            records.setdefault(key, record)
        elif kind == "footer":
            footers.append(_checked(Footer, name, number, line))
        elif kind == "part":
            parts.append(part := _checked(Part, name, number, {field: line[field] for field in line.keys() - {"kind"}}))
            keys[part.run_id] = part.machine_key or header.machine_key
        elif kind == "header":
            _refuse(name, number, "is a second header: give runs one by one instead of joined into one file")
        else:
            _refuse(name, number, f"is neither a record, a part nor a footer (its kind is {shown(kind)})")
    if surplus:
        said.append(f"{name} has more than one record of a cell: the first of each counts, and {surplus} are left out")
    header = header.model_copy(update={"parts": [*header.parts, *parts]})
    run = RunFile(name, header, list(records.values()), footers, said)
    said += [f"{name}: the code of {one} changed between its records" for one in _of_two_sources(run.records)]
    if not run.is_complete:
        said.append(f"{name} is incomplete: {len(records)} of {header.cells_planned} planned records are there")
    return run


def _of_two_sources(records: Iterable[Fields]) -> list[str]:
    """Return the implementations whose records have more than one source hash."""
    sources = {(str(record["implementation"]), str(record["source_hash"])) for record in records}
    names = [name for name, _ in sources]
    return sorted({name for name in names if names.count(name) > 1})


def upgrade(line: Line, name: str, number: int) -> Line:
    """Upgrade a header or a record of an older schema to the current one; footers have no version and stay as they are.

    Raises:
        RunFileError: if the schema is newer, or never existed.
    """
    version = line.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        _refuse(name, number, f"has the schema_version {shown(version)}, which never was")
    if version > SCHEMA_VERSION:
        raise RunFileError(
            f"{name} was written by a newer attnbench (schema {version}; this one reads up to {SCHEMA_VERSION})"
        )
    for step in range(version, SCHEMA_VERSION):
        line = {**UPGRADES[step](line), "schema_version": step + 1}
    return line


def load(*paths: str | Path) -> pd.DataFrame:
    """Load the records of run files into a table with a row per record and a column per field.

    The columns ``path`` and ``machine_key`` follow.

    Types do not depend on the content of a run: numbers that may be absent are ``Int64``, ``boolean`` or ``float64``,
    texts are ``string``, lists stay lists. Problems of a file, such as missing records, are issued as Python warnings.

    Raises:
        RunFileError: as :func:`read_run`.
    """
    runs = [read_run(path) for path in paths]
    for sentence in (sentence for run in runs for sentence in run.warnings):
        warnings.warn(sentence, stacklevel=2)
    return frame_of(runs)


def frame_of(runs: Sequence[RunFile]) -> pd.DataFrame:
    """Return the table of :func:`load` for runs that are already read."""
    import pandas as pd

    records = [record for run in runs for record in run.records]
    columns = {
        name: pd.Series([record[name] for record in records], dtype=dtype) for name, dtype in _column_types().items()
    }
    columns["path"] = pd.Series([run.path for run in runs for _ in run.records], dtype="string")
    keys = [(run.header.machine_keys, run.header.machine_key, run.records) for run in runs]
    found = [of_part.get(record["run_id"], own) for of_part, own, records in keys for record in records]
    columns["machine_key"] = pd.Series(found, dtype="string")
    return pd.DataFrame(columns)


def _read(name: str) -> bytes:
    if name == STDIN:
        return sys.stdin.buffer.read()
    try:
        with open_regular(Path(name)) as file:
            return file.read()
    except OSError as error:
        raise RunFileError(f"{in_one_line(name)} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RunFileError(f"{in_one_line(name)} cannot be read: {error}") from error


def _whole_lines(name: str, data: bytes) -> tuple[list[bytes], list[str]]:
    """Return the lines that end in a newline, and a warning if the last one does not, as ``--resume`` drops it too."""
    *lines, rest = data.split(b"\n")
    said = [f"{name}: the last line is torn and was dropped ({len(rest)} bytes)"] if rest else []
    return lines, said


def _parse(name: str, number: int, text: bytes) -> Line:
    try:
        said = text.decode("utf-8-sig")
        line = decode_json(said)
        if may_act(said) or not isinstance(line, dict) or line.get("kind") != "record":
            line = printable_json(line, _SEVERAL_LINES)
    except ValueError as error:
        _refuse(name, number, f"is not JSON: {error}", error)
    if not isinstance(line, dict):
        _refuse(name, number, "is not a JSON object")
    return line


def _header(name: str, text: bytes) -> Header:
    line = _parse(name, 1, text)
    if line.get("kind") != "header":
        raise RunFileError(f"{name} is not a run file: its first line is no header")
    try:
        return Header.model_validate(upgrade(line, name, 1))
    except ValidationError as error:
        _refuse(name, 1, f"is no header: {first_mistake(error)}", error)


def _checked(kind: type[M], name: str, number: int, line: Line) -> M:
    try:
        return kind.model_validate(line)
    except ValidationError as error:
        _refuse(name, number, f"is no {kind.__name__.lower()}: {first_mistake(error)}", error)


class _CheckedRecords:
    """Checks the records of one file: values must be possible, and commands made of the record's own fields."""

    def __init__(self, name: str, header: Header) -> None:
        self._name, self._header = name, header
        self._cases, self._commands = Cases(), Commands()

    def record(self, number: int, line: Line) -> Fields:
        """Return the record of a line, with every field."""
        fields = _BLANK | line
        del fields["kind"]
        self._require_names(number, fields, line)
        try:
            case = self._cases.of(fields)
        except FieldError as error:
            _refuse(self._name, number, f"is a record whose {error}", error)
        if fields["status"] != "ok" and fields["time_median_ns"] is not None:
            _refuse(self._name, number, f"is a record with status {fields['status']!r} and yet a time")
        if fields["status"] == "ok":
            self._require_agreement(number, fields)
        implementation, ranks = fields["implementation"], fields["ranks"]
        named = _ON_RANKS.search(implementation)
        if (named and named[1]) != (None if ranks is None else str(ranks)) or ranks == 0:
            _refuse(self._name, number, f"is a record of {shown(implementation)} and yet has ranks {ranks}")
        visits = fields["time_visits"]
        if visits and (min(visits) < 1 or sum(visits) != len(fields["time_samples_ns"] or ())):
            _refuse(self._name, number, "is a record whose time_visits do not add up to its samples")
        plugin = self._header.plugin_of(implementation)
        fields["repro"] = self._commands.of(fields["repro"], case, implementation, plugin, fields["device"])
        return fields

    def _require_agreement(self, number: int, fields: Fields) -> None:
        for name in _ERROR_RATIOS:
            if (fields[name] or 0.0) > 1:
                _refuse(self._name, number, f"is a record with status 'ok' and yet {name} {fields[name]:.3g}")
        low, high = fields["time_ci_low_ns"], fields["time_ci_high_ns"]
        if low is not None and high is not None and low > high:
            _refuse(self._name, number, "is a record whose time_ci_low_ns is above its time_ci_high_ns")

    def _require_names(self, number: int, fields: Fields, line: Line) -> None:
        if not line.keys() >= _REQUIRED:
            _refuse(self._name, number, f"is a record without {', '.join(sorted(_REQUIRED - line.keys()))}")
        if len(fields) > len(_BLANK):
            unknown = ", ".join(sorted(fields.keys() - _BLANK.keys()))
            _refuse(self._name, number, f"is a record with fields that schema {SCHEMA_VERSION} has not: {unknown}")


def _refuse(name: str, number: int, what: str, cause: Exception | None = None) -> NoReturn:
    raise RunFileError(f"{name}, line {number}, {what}") from cause


@functools.cache
def _column_types() -> dict[str, str]:
    """Return the pandas dtype of each field of a record, in their order."""
    hints = get_type_hints(Record)
    return {name: _pandas_dtype(hints[name]) for name in Record.model_fields}


def _pandas_dtype(hint: Any) -> str:
    members = members_of(hint)
    optional = type(None) in members
    (kind,) = (member for member in members if member is not type(None))
    if kind is int:
        return "Int64" if optional else "int64"
    if kind is bool:
        return "boolean" if optional else "bool"
    if kind is float:
        return "float64"
    return "object" if get_origin(kind) is tuple else "string"
