"""``attnbench completion``: verbs and options at the press of a key."""

from __future__ import annotations

import sys
from typing import Literal


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
