"""From what a cell gave to its record: whatever it gave, there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from attnbench.errors import first_mistake
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
        mistake = first_mistake(error)
    kept = {name: value for name, value in values.items() if name not in METRICS}
    stage = kept.get("stage") or "agreement"
    reason = f"what was measured makes no record: {mistake}"
    return Record.model_validate({**kept, "status": "error", "stage": stage, "reason": reason})
