"""``attnbench schema`` and ``attnbench completion``: print schemas for editors, and completions for shells."""

from __future__ import annotations

import json
import pkgutil
import sys
from typing import Literal

_MODELS = {
    "record": "attnbench.store.record:Record",
    "header": "attnbench.store.header:Header",
    "gate": "attnbench.gate.verdict:GateResult",
    "calibration": "attnbench.gate.calibration:Calibration",
}
"""Import paths, so that only the requested model is imported."""


def schema(what: Literal["scenario", "record", "header", "gate", "calibration"], /) -> int:
    """Print the JSON Schema of a file format.

    ```
    attnbench schema scenario
    ```

    Args:
        what: scenario (the .toml files), record or header (the lines of a run file), gate (gate.json), calibration.
    """
    from attnbench.sweep.load import scenario_schema

    described = scenario_schema() if what == "scenario" else pkgutil.resolve_name(_MODELS[what]).model_json_schema()
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
