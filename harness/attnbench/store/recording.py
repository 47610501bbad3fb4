"""From what a cell gave to its record: whatever it gave, there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from attnbench.store.record import METRICS, Record
from attnbench.untrusted.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping


def record_of(values: Mapping[str, Any]) -> Record:
    """The record with these values; of status ``error`` and without metrics where a record cannot hold one of them."""
    values = {name: printable(value) if isinstance(value, str) else value for name, value in values.items()}
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place, message = ".".join(str(part) for part in first["loc"]), first["msg"]
    kept = {name: value for name, value in values.items() if name not in METRICS}
    stage = kept.get("stage") or "agreement"
    reason = f"what was measured makes no record: {place + ': ' if place else ''}{message}"
    return Record.model_validate({**kept, "status": "error", "stage": stage, "reason": reason})
