"""Draws the cases for ``make gpu-1`` before a GPU is needed: a JSON file with a request for each process.

``python -m tests.gpu.draw FOLDER`` draws them for every implementation that declares CUDA, whether or not it runs here.
Cases that an implementation refuses in a hook that needs a GPU are drawn, too; their records will say so.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from pathlib import Path

from attnbench.api.progress import Log
from attnbench.api.selection import CellSelection
from attnbench.registry.discover import find
from attnbench.runner.planning.covering import with_covering_cases
from attnbench.transport.host import LocalHost

SEED = 25
PROCESSES = {"triton/flash": 5, "torch/flex": 2}
"""Number of processes for implementations that take seconds to compile each case."""


class HostWithGPU(LocalHost):
    """This machine, as if it had a GPU."""

    def device_unavailable(self, device: str) -> str | None:
        """Return ``None``: every device counts as available."""
        return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.draw", description=__doc__)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for one in find(()):
        if one.declaration is None or "cuda" not in one.declaration.devices or one.declaration.framework != "torch":
            continue
        asked = CellSelection.of(include=f"^{re.escape(one.name)}$", device="cuda", threads=1, seed=SEED)
        request = with_covering_cases(
            asked.request(Log(progress=False), only_agreement=True),
            thorough=False,
            found=[dataclasses.replace(one, unavailable=None)],
            host=HostWithGPU(),
        )
        count = PROCESSES.get(one.name, 1)
        for number in range(count):
            part = dataclasses.replace(request, cells=request.cells[number::count])
            path = given.folder / f"{one.name.replace('/', '-')}-{number + 1}.json"
            path.write_text(json.dumps(part.to_dict()))
        sys.stdout.write(f"{one.name}: {len(request.cells)} cases\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
