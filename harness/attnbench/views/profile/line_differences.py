"""How two cells differ line by line, for cells that run sources of the same names: two revisions of a kernel."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from attnbench.units import count, signed_duration
from attnbench.views.document import Column, Table, column

if TYPE_CHECKING:
    from attnbench.store.profile import CellProfile
    from attnbench.views.document import Row
    from attnbench.views.profile.differences import Difference

_MOST = 20

Line = tuple[str, str, str]
"""The file's name without its folder, the function, and the line's text, which stay the same when lines are added
above.

If the profile has sides, the file's name is empty, because a plug-in's copy can have another name.
"""


def line_table(difference: Difference) -> Table | None:
    """Return the lines that differ most, the sum of all others, and the time outside of these sources.

    The differences add up to that of the medians. The result is ``None`` if no line is in both cells.
    """
    fast, slow = _lines(difference.fast.cell), _lines(difference.slow.cell)
    shared = {file for file, _, _ in fast} & {file for file, _, _ in slow}
    keys = [key for key in dict.fromkeys((*fast, *slow)) if key[0] in shared]
    if not any(key in fast and key in slow for key in keys):
        return None
    keys.sort(key=lambda key: -abs(slow[key] - fast[key]))
    rows = [_row(f"{key[0]}{key[1]}", key[2], fast[key], slow[key]) for key in keys[:_MOST]]
    if rest := keys[_MOST:]:
        rows.append(
            _row(count(len(rest), "other line"), "", sum(fast[key] for key in rest), sum(slow[key] for key in rest))
        )
    medians = [one.cell.median_ns or 0.0 for one in (difference.fast, difference.slow)]
    inside = [sum(found[key] for key in keys) for found in (fast, slow)]
    rows.append(_row("outside of these sources", "", medians[0] - inside[0], medians[1] - inside[1]))
    return Table(
        columns=[
            column("function", "where"),
            column(difference.fast.name, "fast", unit="ns"),
            column(difference.slow.name, "slow", unit="ns"),
            Column(title="difference", text=lambda row: signed_duration(row["ns"]), is_number=True),
            column("source", "text", is_code=True),
        ],
        rows=rows,
    )


def _lines(cell: CellProfile) -> collections.defaultdict[Line, float]:
    """Return the time of each line, without its callees."""
    found: collections.defaultdict[Line, float] = collections.defaultdict(float)
    for line in cell.lines:
        file = "" if cell.side else f"{line.file.replace(chr(92), '/').rpartition('/')[2]}: "
        found[file, line.function, line.text.strip() or f"line {line.line}"] += line.ns
    return found


def _row(where: str, text: str, fast: float, slow: float) -> Row:
    return {"where": where, "text": text, "fast": fast, "slow": slow, "ns": slow - fast}
