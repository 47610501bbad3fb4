"""The view of a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.units import count, duration
from attnbench.views.document import Column, Heading, Paragraph, Table, View

if TYPE_CHECKING:
    from attnbench.gate.calibration import Calibration
    from attnbench.views.document import Row


def calibration_view(found: Calibration) -> View:
    """Show the rate of false alarms first, then each cell's noise, noisiest first."""
    rows: list[Row] = [one.model_dump(mode="json") for one in sorted(found.cells, key=lambda one: -one.noise_sd)]
    common = (
        "" if found.common_sd is None else f" All cells together move by {_percent(found.common_sd)} (sd) in a round."
    )
    return View(
        blocks=[
            Heading(text=f"Noise of {found.scenario} on this machine ({found.machine_key})", level=1),
            Paragraph(
                text=f"Of {found.gates_drawn} gates drawn from {count(found.rounds, 'round')} of the same code, "
                f"{_percent(found.gates_with_alarm)} raise an alarm; {_percent(found.delta)} are tolerated.{common}"
            ),
            Table(
                columns=[
                    Column(title="cell", text=lambda row: str(row["label"])),
                    Column(title="time", text=lambda row: duration(row["time_ns"]), is_number=True),
                    Column(title="sd of a pair", text=lambda row: _percent(row["noise_sd"]), is_number=True),
                    Column(title="noise floor", text=lambda row: _percent(row["floor"]), is_number=True),
                    Column(title="detectable", text=lambda row: _percent(row["detectable"]), is_number=True),
                    Column(title="false alarms", text=lambda row: _percent(row["false_alarms"]), is_number=True),
                ],
                rows=rows,
            ),
        ],
        rows=rows,
        facts=found.model_dump(mode="json", exclude={"cells"}),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
