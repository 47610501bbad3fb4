"""Merges the shards of a run to one run."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from attnbench.errors import UsageError
from attnbench.runner.planning.request import request_from
from attnbench.runner.planning.shard import Shard, missing_shards
from attnbench.store.header import Part
from attnbench.store.record import SCHEMA_VERSION
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.store.header import Header
    from attnbench.store.reader import RunFile


class MergeError(UsageError):
    """The runs are not the shards of one run; the message is one sentence."""


def merged(runs: Sequence[RunFile], *, across_machines: bool = False) -> list[dict[str, object]]:
    """Return the lines of the whole run: header, records and footers, JSON-ready.

    A record keeps its ``run_id``, by which the header's ``parts`` name its machine. No case is split, so shards can be
    measured by machines of several kinds.

    ``across_machines`` means that there is a whole run for each kind of machine, in one file or in shards.

    Raises:
        MergeError: the runs are not all shards of one request, measured by the same code.
    """
    of_kind: dict[str, list[RunFile]] = {}
    for run in runs:
        of_kind.setdefault(run.header.machine_key if across_machines else "", []).append(run)
    if across_machines and len(of_kind) < 2:
        raise MergeError("--across machines joins runs of several kinds of machines, and these are of one")
    ordered = [run for kind in of_kind.values() for run in _whole(kind, may_be_one=across_machines)]
    if not ordered:
        raise MergeError("there is nothing to merge")
    for run in ordered[1:]:
        if others := list(_differences(ordered[0], run)):
            raise MergeError(f"{run.path} does not belong to {ordered[0].path}: {'; '.join(others)}")
    _require_own_records(ordered)
    records = [{"kind": "record", **record} for run in ordered for record in run.records]
    footers = [footer.model_dump(mode="json") for run in ordered for footer in run.footers]
    header = _header([run.header for run in ordered])
    return [header.model_dump(mode="json"), *records, *footers]


def _require_own_records(runs: Sequence[RunFile]) -> None:
    """Raise unless each run has its own ``run_id`` and no records of another: only the id shows a record's machine."""
    of_run: dict[str, RunFile] = {}
    for run in runs:
        other = of_run.setdefault(run.header.run_id, run)
        if other is not run:
            raise MergeError(f"{run.path} and {other.path} are the same run, {shown(run.header.run_id)}")
        if stray := next((one["run_id"] for one in run.records if one["run_id"] != run.header.run_id), None):
            raise MergeError(f"{run.path} has records of another run, {shown(stray)}")


def _whole(runs: Sequence[RunFile], *, may_be_one: bool) -> list[RunFile]:
    """Return the runs in the order of their shards, none missing; ``may_be_one`` allows a single unsharded run."""
    if several := next((run for run in runs if run.header.parts), None):
        raise MergeError(f"{several.path} is of several machines already")
    if may_be_one and len(runs) == 1 and request_from(runs[0].header.request).shard is None:
        return [*runs]
    of_shard = _by_shard(runs)
    return [of_shard[index] for index in sorted(of_shard)]


def _by_shard(runs: Sequence[RunFile]) -> dict[int, RunFile]:
    """Return the run of each shard; none is missing."""
    found: dict[int, RunFile] = {}
    shards = []
    for run in runs:
        asked = request_from(run.header.request).shard
        if asked is None:
            raise MergeError(f"{run.path} is no shard: it was not made with --shard (a report takes several runs)")
        shard = Shard(*asked)
        shards.append(shard)
        if shard.of != shards[0].of:
            raise MergeError(
                f"{run.path} is shard {shard}, {runs[0].path} is {shards[0]}: they are of different splits"
            )
        if shard.index in found:
            raise MergeError(f"{run.path} and {found[shard.index].path} are both shard {shard}")
        found[shard.index] = run
    if missing := missing_shards(shards[0].of, shards):
        named = ", ".join(map(str, missing))
        raise MergeError(f"of {shards[0].of} shards these are missing: {named}")
    return found


def _differences(first: RunFile, other: RunFile) -> Iterable[str]:
    """Yield a clause for each reason why the two are not parts of one run."""
    one, two = first.header, other.header
    requests = [_asked(header) for header in (one, two)]
    for name in sorted({*requests[0], *requests[1]}):
        if requests[0].get(name) != requests[1].get(name):
            yield f"another {name} was asked for"
    if one.machine_key == two.machine_key and one.threads != two.threads:
        yield f"it was measured with {two.threads} threads, not {one.threads}"
    versions = [_versions(header) for header in (two, one)]
    for name in sorted(versions[0].keys() & versions[1].keys()):
        if versions[0][name] != versions[1][name]:
            yield f"{name} was {versions[0][name]} there and {versions[1][name]} here"
    for name in sorted({*one.implementations, *two.implementations}):
        hashes = [(header.implementations.get(name) or {}).get("source_hash") for header in (two, one)]
        if hashes[0] != hashes[1]:
            yield f"{name} was other code ({hashes[0]}; not {hashes[1]})"


def _asked(header: Header) -> dict[str, object]:
    """Return the request; its threads are left out if it asks for one per core, because machines differ in cores."""
    threads = None if header.request.get("all_cores") else header.threads
    return {**header.request, "shard": None, "on": None, "threads": threads}


def _versions(header: Header) -> dict[str, str]:
    """Return the versions of attnbench, Python and the libraries in a header."""
    known = {"python": header.environment.get("python"), **(header.environment.get("versions") or {})}
    return {"attnbench": header.attnbench_version, **{name: str(one or "not installed") for name, one in known.items()}}


def _header(headers: Sequence[Header]) -> Header:
    """Return the header of the whole run."""
    parts = [
        Part(
            run_id=one.run_id, created_at=one.created_at,
            shard=str(Shard(*shard)) if (shard := one.request.get("shard")) else None,
            environment=one.environment, libraries=one.libraries, peaks=one.peaks,
            machine_key=one.machine_key, threads=one.threads,
        )
        for one in headers
    ]  # fmt: skip
    return headers[0].model_copy(
        update={
            "schema_version": SCHEMA_VERSION,
            "run_id": uuid.uuid4().hex[:12],
            "created_at": min(one.created_at for one in headers),
            "command": _of_the_whole(headers[0].command),
            "request": {**headers[0].request, "shard": None},
            "cells_planned": sum(one.cells_planned for one in headers),
            "parts": parts,
        }
    )


def _of_the_whole(command: Sequence[str]) -> list[str]:
    """Return the command without ``--shard K/N`` and the part's ``--out``."""
    words = list(command)
    for option in ("--shard", "--out"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    return words
