"""Splits a run on several kinds of machines into one run each, since implementations are compared within a kind."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from attnbench.grouping import grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnbench.store.header import Header
    from attnbench.store.reader import RunFile


def by_machine(run: RunFile) -> list[RunFile]:
    """Return one run per machine key of the records; the run itself if all records have the header's key.

    The file's warnings stay with the first run. Footers are dropped, since they belong to the file, not to a machine.
    """
    keys = run.header.machine_keys
    of_key = grouped(run.records, lambda record: keys.get(record["run_id"], run.header.machine_key))
    if of_key.keys() <= {run.header.machine_key}:
        return [run]
    headers = {key: _header_of(run.header, key, len(records)) for key, records in of_key.items()}
    names = {key: " and ".join(header.machines) for key, header in headers.items()}
    alike = [*names.values()]
    return [
        dataclasses.replace(
            run,
            header=headers[key],
            records=records,
            footers=[],
            warnings=run.warnings if number == 0 else [],
            machine=names[key] if alike.count(names[key]) == 1 else f"{names[key]} ({key})",
        )
        for number, (key, records) in enumerate(of_key.items())
    ]


def _header_of(header: Header, key: str, records: int) -> Header:
    parts: Sequence[Any] = [part for part in header.parts if (part.machine_key or header.machine_key) == key]
    found = {"machine_key": key, "parts": parts, "cells_planned": records}
    if parts:
        first = parts[0]
        found |= {"environment": first.environment, "libraries": first.libraries, "peaks": first.peaks}
        found["threads"] = first.threads or header.threads
    return header.model_copy(update=found)
