"""``attnbench capture``: capture a model's attention as a scenario."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated

from cyclopts import Parameter

from attnbench.api.models.capturing import Tensors, capture_program
from attnbench.cli.options import Force  # noqa: TC001 - cyclopts reads them
from attnbench.cli.output import print_tables

EXIT_NOTHING = 5


def capture(
    *program: Annotated[str, Parameter(allow_leading_hyphen=True)],
    out: Path,
    tensors: Tensors = "none",
    force: Force = False,
) -> int:
    """Run a Python program, and capture its attention as a scenario that can be run and replayed.

    The program keeps its streams and its exit code. What was captured is written when it ends, also when it fails or is
    interrupted; a table of it ends stderr. Within the program compiled models run uncompiled. Exit code 5 when the
    program ends well but no attention was seen.

    ```
    attnbench capture --out out -- python script.py --its-own-option
    attnbench capture --out out --tensors first -- -m package.module
    ```

    Args:
        program: the program, behind ``--``: python and its words, or a script or ``-m`` and a module alone.
        out: the folder to write: scenario.toml, capture.json and tensors.
        tensors: of which calls of each shape queries, keys and values are kept: none, the first, or the first so many,
            each as a shape of its own.
    """
    captured, code = capture_program(program, out, tensors, force=force)
    print_tables(captured.view, sys.stderr)
    return code or (0 if captured.capture.calls else EXIT_NOTHING)
