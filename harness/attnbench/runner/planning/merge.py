"""Shards of one run, measured beside each other, as one run."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError
from attnbench.runner.planning.request import request_from
from attnbench.runner.planning.shard import Shard, missing_shards
from attnbench.store.header import Part
from attnbench.store.record import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnbench.store.header import Header
    from attnbench.store.reader import RunFile


class MergeError(UsageError):
    """Runs that are not the shards of one; the message is one sentence."""


def merged(runs: Sequence[RunFile]) -> list[dict[str, Any]]:
    """The lines of the run that the shards make up: header, records, footers, JSON-ready.

    A record keeps its ``run_id``; the header says on which machine that part was measured.

    Args:
        runs: the shards, in any order.

    Raises:
        MergeError: when they are not all shards of one request, measured by the same code on the same kind of machine.
    """
    of_shard = _by_shard(runs)
    ordered = [of_shard[index] for index in sorted(of_shard)]
    for run in ordered[1:]:
        if others := list(_differences(ordered[0], run)):
            raise MergeError(f"{run.path} does not belong to {ordered[0].path}: {'; '.join(others)}")
    records = [{"kind": "record", **record} for run in ordered for record in run.records]
    footers = [footer.model_dump(mode="json") for run in ordered for footer in run.footers]
    return [_header([run.header for run in ordered]), *records, *footers]


def _by_shard(runs: Sequence[RunFile]) -> dict[int, RunFile]:
    """The run of each shard, all of them there."""
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
    if not shards:
        raise MergeError("there is nothing to merge")
    if missing := missing_shards(shards[0].of, shards):
        named = ", ".join(map(str, missing))
        raise MergeError(f"of {shards[0].of} shards these are missing: {named}")
    return found


def _differences(first: RunFile, other: RunFile) -> Iterable[str]:
    """Why the two are not of one run, a clause each."""
    one, two = first.header, other.header
    requests = [{**header.request, "shard": None} for header in (one, two)]
    for name in sorted({*requests[0], *requests[1]}):
        if requests[0].get(name) != requests[1].get(name):
            yield f"another {name} was asked for"
    if one.machine_key != two.machine_key:
        names = [
            f"{header.environment.get('cpu_model') or 'unknown CPU'}, {header.machine_key}" for header in (two, one)
        ]
        yield f"it was measured on another kind of machine ({names[0]}; not {names[1]}), so times do not compare"
    versions = [_versions(header) for header in (two, one)]
    for name in sorted(versions[0].keys() & versions[1].keys()):
        if versions[0][name] != versions[1][name]:
            yield f"{name} was {versions[0][name]} there and {versions[1][name]} here"
    for name in sorted({*one.implementations, *two.implementations}):
        hashes = [(header.implementations.get(name) or {}).get("source_hash") for header in (two, one)]
        if hashes[0] != hashes[1]:
            yield f"{name} was other code ({hashes[0]}; not {hashes[1]})"


def _versions(header: Header) -> dict[str, str]:
    """Versions of attnbench, Python and the libraries that the header names."""
    known = {"python": header.environment.get("python"), **(header.environment.get("versions") or {})}
    return {"attnbench": header.attnbench_version, **{name: str(one or "not installed") for name, one in known.items()}}


def _header(headers: Sequence[Header]) -> dict[str, Any]:
    """The header of the whole run."""
    parts = [
        Part(
            run_id=one.run_id, created_at=one.created_at, shard=str(Shard(*one.request["shard"])),
            environment=one.environment, libraries=one.libraries, peaks=one.peaks,
        )
        for one in headers
    ]  # fmt: skip
    whole = headers[0].model_copy(
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
    return whole.model_dump(mode="json")


def _of_the_whole(command: Sequence[str]) -> list[str]:
    """The words without ``--shard K/N`` and the part's ``--out``."""
    words = list(command)
    for option in ("--shard", "--out"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    return words
