"""``attnbench use``: a program with another attention."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from attnbench.api.models.putting_back import use_program
from attnbench.cli.options import Format  # noqa: TC001 - cyclopts reads them
from attnbench.cli.output import print_view

_ROUNDS = 9


def use(
    implementation: str,
    /,
    *program: Annotated[str, Parameter(allow_leading_hyphen=True)],
    verify: Annotated[bool, Parameter(negative="")] = False,
    rounds: int | None = None,
    plugin: Annotated[str | None, Parameter(name=["--plugin", "-p"])] = None,
    form: Format = "terminal",
) -> int:
    """Run a Python program whose models' attention an implementation computes, and tell how many calls it served.

    The program keeps its streams and its exit code. What the implementation does not serve is left to the model, and
    told with the reason. Exit code 5 when the program ends well but no call was served; with --verify 1 when outputs
    differ by more than rounding errors of attention explain.

    ```
    attnbench use numba/flash -- python script.py --its-own-option
    attnbench use numba/flash --verify -- python script.py
    ```

    Args:
        implementation: its name, as attnbench list implementations has it.
        program: the program, behind ``--``: python and its words, or a script or ``-m`` and a module alone.
        verify: run it again and again, with its own attention and with the implementation, and compare what its
            models return and how long they take. It must compute the same each time.
        rounds: how often either is timed with --verify; default 9.
        plugin: the file that defines the implementation, where it is one of your own.
    """
    asked = (_ROUNDS if rounds is None else rounds) if verify or rounds is not None else None
    verified, code = use_program(implementation, program, plugin=plugin, rounds=asked)
    if verified is None:
        return code
    print_view(verified.view, form)
    return code or (0 if verified.ok else 1)
