"""Keeps one row of each timed sample's output, chosen after the sample was taken."""

from __future__ import annotations

import math
from random import SystemRandom
from typing import TYPE_CHECKING

from attnbench.cases.inputs.operands import output_shape
from attnbench.cases.inputs.sample_inputs import SampledRow
from attnbench.worker.dump import canonical_output, selected
from attnbench.worker.output_checks import MisconductError

if TYPE_CHECKING:
    from typing import Any

    from attnbench.cases.case import Case
    from attnbench.cases.inputs.sample_inputs import Inputs

_MOST = 200
# Bound before any plug-in is imported; only the system knows what it will draw.
_RANDOM = SystemRandom()


class SampledRows:
    """Rows by position. If positions are few, chance decides which sample keeps one.

    They are in as few heads as have enough rows, because the oracle generates the keys of whole heads.
    """

    def __init__(self, case: Case, layout: str) -> None:
        self._case, self._layout = case, layout
        self._kept: dict[tuple[int, int, int], tuple[SampledRow, bytes]] = {}
        groups = [(b, g) for b in range(case.batch) for g in range(case.heads_kv)]
        of_group = case.seqlen_q * case.heads_q // case.heads_kv
        self._groups = _RANDOM.sample(groups, min(len(groups), math.ceil(_MOST / of_group)))
        self.dtype = ""

    def add(self, sample: int, inputs: Inputs, out: Any) -> None:
        """Keep a row of this output.

        Raises:
            MisconductError: its shape differs from that of the first calls.
        """
        view = canonical_output(self._case, self._layout, "out", out)
        due = output_shape(self._case)
        if tuple(view.shape) != due:
            raise MisconductError(f"a timed call returned out with the shape {tuple(view.shape)}, not {due}")
        size = self._case.heads_q // self._case.heads_kv
        batch, group = _RANDOM.choice(self._groups)
        place = (batch, group * size + _RANDOM.randrange(size), _RANDOM.randrange(self._case.seqlen_q))
        if place in self._kept and _RANDOM.random() < 0.5:
            return
        row = SampledRow(sample=sample, inputs=inputs, batch=place[0], head=place[1], row=place[2])
        self.dtype = str(view.dtype).removeprefix("torch.")
        self._kept[place] = (row, selected(view, (place[:2],), (place[2],), has_heads=True))

    @property
    def rows(self) -> tuple[SampledRow, ...]:
        """The samples and positions of the rows."""
        return tuple(row for row, _ in self._kept.values())

    @property
    def data(self) -> bytes:
        """The bytes of the rows, one after the other."""
        return b"".join(data for _, data in self._kept.values())
