"""Accounts for a run's wall time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.store.header import checking_sentence

if TYPE_CHECKING:
    from attnbench.stages.stage import Spent


@dataclasses.dataclass
class Shares:
    """Seconds of a run by purpose."""

    first_calls_s: float = 0.0
    """Preparation, and the first call of each cell, including compilation."""
    warmup_s: float = 0.0
    samples_s: float = 0.0
    memory_s: float = 0.0
    """Calls whose memory is measured; on an accelerator also calls that are timed in other ways."""
    repeats_s: float = 0.0
    """Calls that are only judged: repeated ones, and ones on fresh inputs."""
    shown_s: float = 0.0
    """Copying, comparing and writing outputs so that they can be judged."""
    imports_s: float = 0.0
    """Starting workers and importing their libraries, in wall time because several start at once."""
    oracle_s: float = 0.0
    identities_s: float = 0.0
    """Identities: other ways to the same answer, with their calls and comparisons."""
    machine_s: float = 0.0
    """Describing the machine and measuring its peaks."""
    wall_s: float = 0.0

    @property
    def calls_s(self) -> float:
        """Seconds inside implementations: preparation, and calls that are checked, timed or weighed."""
        return self.first_calls_s + self.warmup_s + self.samples_s + self.memory_s + self.repeats_s

    @property
    def rest_s(self) -> float:
        """Seconds for everything else: inputs, pipes, files, bookkeeping."""
        return max(0.0, self.wall_s - self._accounted_s)

    @property
    def _accounted_s(self) -> float:
        checked = self.shown_s + self.oracle_s + self.identities_s
        return self.calls_s + checked + self.imports_s + self.machine_s

    @property
    def overhead(self) -> float | None:
        """Wall time over the time inside calls and imports; ``None`` if nothing was called."""
        useful = self.calls_s + self.imports_s
        return self.wall_s / useful if useful > 0 else None

    def to_dict(self) -> dict[str, float]:
        """Return the shares JSON-ready, rounded to milliseconds."""
        spent = {**dataclasses.asdict(self), "calls_s": self.calls_s, "rest_s": self.rest_s}
        return {name: round(seconds, 3) for name, seconds in spent.items()}

    def add(self, spent: Spent) -> None:
        """Add the time that a cell took."""
        for field in dataclasses.fields(spent):
            name = f"{field.name}_s"
            setattr(self, name, getattr(self, name) + getattr(spent, field.name) / 1e9)

    def sentence(self) -> str:
        """Describe how the time was spent and, for a timed run, the cost of checking."""
        overhead = f", {self.overhead:.2f} times calls and imports" if self.calls_s and self.overhead else ""
        whole = (
            f"{self.wall_s:.1f} s{overhead}: calls {self.calls_s:.1f} s, imports {self.imports_s:.1f} s, "
            f"oracle {self.oracle_s:.1f} s, identities {self.identities_s:.1f} s, machine {self.machine_s:.1f} s, "
            f"rest {self.rest_s:.1f} s"
        )
        checking = checking_sentence([self.to_dict()])
        return f"{whole}\n{checking}" if checking else whole
