"""Describe a side from its own interpreter: its implementations, and the header of its run files.

``python -P -m attnbench.gate.measure.probe REQUEST.json HEADER.json``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attnbench.registry.found import RegistryError
from attnbench.runner.planning.header import measure_header
from attnbench.runner.planning.plan import PlanError
from attnbench.runner.planning.request import plan_request, request_from


def main() -> int:
    """Write the header that a run of the request would have in this interpreter."""
    asked, answer = (Path(argument) for argument in sys.argv[1:])
    request = request_from(json.loads(asked.read_text(encoding="utf-8")))
    try:
        cells = plan_request(request)
    except (PlanError, RegistryError) as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 2
    answer.write_text(json.dumps(measure_header(request, cells, "", None, [])), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
