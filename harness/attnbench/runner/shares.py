"""Where a run's wall time went: the harness accounts for itself."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Shares:
    """Seconds of a run, by what they were spent on."""

    calls_s: float = 0.0
    """Inside implementations: preparing, and calls that were checked, timed or weighed."""
    imports_s: float = 0.0
    """Workers starting and importing their libraries; several start at once, so this is wall time."""
    oracle_s: float = 0.0
    identities_s: float = 0.0
    """Other ways to the same answer: their calls, and comparing them."""
    machine_s: float = 0.0
    """Looking at the machine and measuring its peaks."""
    wall_s: float = 0.0

    @property
    def rest_s(self) -> float:
        """Inputs, pipes, files, bookkeeping."""
        return max(
            0.0, self.wall_s - self.calls_s - self.imports_s - self.oracle_s - self.identities_s - self.machine_s
        )

    @property
    def overhead(self) -> float | None:
        """Wall time over the time inside calls and imports; ``None`` when nothing was called."""
        useful = self.calls_s + self.imports_s
        return self.wall_s / useful if useful > 0 else None

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready."""
        return {**{k: round(v, 3) for k, v in dataclasses.asdict(self).items()}, "rest_s": round(self.rest_s, 3)}

    def sentence(self) -> str:
        """One line for the end of a run."""
        overhead = f", {self.overhead:.2f} times calls and imports" if self.overhead else ""
        return (
            f"{self.wall_s:.1f} s{overhead}: calls {self.calls_s:.1f} s, imports {self.imports_s:.1f} s, "
            f"oracle {self.oracle_s:.1f} s, identities {self.identities_s:.1f} s, machine {self.machine_s:.1f} s, "
            f"rest {self.rest_s:.1f} s"
        )
