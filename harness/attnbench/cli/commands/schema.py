"""``attnbench schema`` and ``attnbench completion``: what editors and shells want to know."""

from __future__ import annotations

import json
import sys
from typing import Literal


def schema(what: Literal["scenario", "record", "header", "gate", "calibration"], /) -> int:
    """Print the JSON Schema of a file format.

    ```
    attnbench schema scenario
    ```

    Args:
        what: scenario (the .toml files), record or header (the lines of a run file), gate (gate.json), calibration.
    """
    if what == "scenario":
        from attnbench.sweep.load import scenario_schema

        described = scenario_schema()
    elif what == "record":
        from attnbench.store.record import Record

        described = Record.model_json_schema()
    elif what == "gate":
        from attnbench.gate.verdict import GateResult

        described = GateResult.model_json_schema()
    elif what == "calibration":
        from attnbench.gate.calibration import Calibration

        described = Calibration.model_json_schema()
    else:
        from attnbench.store.header import Header

        described = Header.model_json_schema()
    sys.stdout.write(json.dumps(described, indent=2) + "\n")
    return 0


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print the script that makes a shell complete verbs and options.

    In bash, source <(attnbench completion bash) tries it out.

    ```
    attnbench completion bash
    ```

    Args:
        shell: bash, zsh or fish.
    """
    from attnbench.cli.main import app, load_verbs

    load_verbs()
    sys.stdout.write(app.generate_completion(shell=shell))
    return 0
