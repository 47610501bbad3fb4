"""Compares predictions with measurements over slow networks: ``python -m tests.predicting.truth [FOLDER]``.

The fit sees 2 ranks over one bandwidth. Compared are other bandwidths, a latency, and 4 ranks. Batches of many short
sequences make communication dominate.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import attnbench
from attnbench.units import duration
from tests.predicting.slow_network import unavailable, within

CELLS = (
    "-i", "^ring/torch$", "-i", "^ulysses/torch$", "-a", "batch=32", "-a", "seqlen=32,64,96,128", "-a", "heads=4",
    "-a", "head_dim=128",
    "--threads", "4", "--peaks", "none",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its number of ranks."""

    rate: str
    """The bandwidth in the syntax of tc."""
    bandwidth: str
    delay_ms: int = 0
    ranks: int = 2

    def __str__(self) -> str:
        delay = f" +{self.delay_ms} ms" if self.delay_ms else ""
        return f"{self.bandwidth}{delay}, {self.ranks} ranks"

    @property
    def round_ms(self) -> int:
        """Return the time of a round of gloo, two delays: the receiver reports that it is ready, then data arrive."""
        return 2 * self.delay_ms

    def measure(self, folder: Path) -> Path:
        """Measure a run over the network, and return its file."""
        out = folder / f"{self.rate}-{self.delay_ms}-{self.ranks}.jsonl"
        line = [
            sys.executable,
            "-m",
            "attnbench",
            "run",
            *CELLS,
            "--ranks",
            str(self.ranks),
            "--out",
            str(out),
            "--force",
        ]
        subprocess.run(within(self.rate, self.delay_ms, line), check=False, capture_output=True)
        return out


SEEN = Network("500mbit", "500Mbit/s")
UNSEEN = (
    Network("250mbit", "250Mbit/s"), Network("1gbit", "1Gbit/s"), Network("1gbit", "1Gbit/s", 5),
    Network("500mbit", "500Mbit/s", 0, 4),
)  # fmt: skip


def measured_ns(run: Path) -> dict[tuple[str, int], tuple[float, float]]:
    """Return communication and its exposed part by implementation and length, for cells with the status ok."""
    cells = attnbench.load(run)
    cells = cells[cells["status"] == "ok"]
    names = cells["implementation"].str.partition("@")[0]
    exposed = cells["time_median_ns"] * cells["ranks_exposed"]
    values = zip(cells["ranks_communication_ns"], exposed, strict=True)
    return dict(zip(zip(names, cells["seqlen_kv"], strict=True), values, strict=True))


def compare(seen: Path, network: Network, folder: Path) -> None:
    """Print a line per cell, and the median of absolute errors."""
    measured = measured_ns(network.measure(folder))
    predicted = attnbench.predict(
        seen, ranks=network.ranks, bandwidth=network.bandwidth, seqlen="32,64,96,128", link="shared",
        latency=f"{network.round_ms}ms" if network.round_ms else None,
    ).frame  # fmt: skip
    errors: list[tuple[float, float]] = []
    for row in predicted.itertuples():
        due = measured.get((str(row.implementation), int(str(row.seqlen))))
        if due is None:
            continue
        guessed = float(str(row.predicted_communication_ns)), float(str(row.predicted_exposed_ns))
        errors.append((guessed[0] / due[0] - 1, guessed[1] / due[1] - 1))
        said = [
            f"{duration(guess):>7} for {duration(truth):>7} ({error:+.0%})"
            for guess, truth, error in zip(guessed, due, errors[-1], strict=True)
        ]
        print(f"{network!s:23} {row.implementation:13} {row.seqlen:4}  {said[0]:28} {said[1]}")
    medians = [statistics.median(map(abs, of_one)) for of_one in zip(*errors, strict=True)]
    print(f"{network!s:23} median of absolute errors: {' and '.join(f'{one:.0%}' for one in medians)}", flush=True)


def main() -> int:
    """Measure, predict, and print both."""
    if why := unavailable():
        print(f"no slow network here: {why}")
        return 6
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; fitted to {SEEN}")
    print("predicted for measured, of a call's communication alone and of what is exposed of it:")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(sys.argv[1] if len(sys.argv) > 1 else folder)
        seen = SEEN.measure(place)
        for network in UNSEEN:
            compare(seen, network, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
