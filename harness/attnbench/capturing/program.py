"""``python -m attnbench.capturing.program SETTINGS WORDS...``: runs a user's Python program under capture.

SETTINGS are :class:`Settings` as JSON. WORDS are the program's own: the script, module or code, and its arguments.
"""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


Start = Literal["script", "module", "code"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that the command passes to the program's process."""

    folder: str
    """Folder to write the capture into."""
    tensors: int
    """Number of calls of each shape whose tensors are kept."""
    command: str
    """Command line that reproduces the capture."""
    start: Start


def main() -> int:
    """Run the program, and return its exit code."""
    from attnbench.capturing.session import Session
    from attnbench.runner.interrupts import raise_signals

    settings = Settings(**json.loads(sys.argv[1]))
    sys.argv[:] = sys.argv[2:]
    raise_signals()
    session = Session(Path(settings.folder), settings.tensors, settings.command)

    def captured() -> None:
        with session.capturing():
            run_program(settings.start)

    code = exit_code(captured)
    session.write()
    return code


def exit_code(program: Callable[[], object]) -> int:
    """Run a program to its end, and return the exit code that it would have."""
    from attnbench.runner.interrupts import exit_code_of

    code = 0
    try:
        program()
    except SystemExit as ended:
        code = code_of(ended)
    except KeyboardInterrupt as interrupt:
        code = exit_code_of(interrupt)
    except BaseException as error:  # noqa: BLE001 - the capture is written however the program ends
        traceback.print_exception(error.with_traceback(_of_program(error.__traceback__)))
        code = 1
    return code


def run_program(start: Start) -> None:
    """Run the program that ``sys.argv`` names as Python itself would, its threads included."""
    try:
        _run(start)
    finally:
        _wait_for_threads()


def _run(start: Start) -> None:
    if start == "script":
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    sys.path[0] = "" if start == "code" else os.getcwd()  # noqa: PTH109 - as Python has it
    if start == "module":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    code, sys.argv[0] = sys.argv[0], "-c"
    main = sys.modules["__main__"] = types.ModuleType("__main__")  # pickle looks up the code's definitions here
    exec(compile(code, "<string>", "exec"), vars(main))  # noqa: S102 - the user's own line


def _wait_for_threads() -> None:
    """Wait for the program's threads, as Python does at exit, so that their calls are captured, too."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def code_of(ended: SystemExit) -> int:
    """Return the exit code that Python would return; if the code is a text, print it and return 1."""
    if ended.code is None or isinstance(ended.code, int):
        return ended.code or 0
    sys.stderr.write(f"{ended.code}\n")
    return 1


def _of_program(frames: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that belongs to the program."""
    own = str(Path(__file__).parents[1])
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith((own, runpy.__file__, "<frozen runpy>")):
        frames = frames.tb_next
    return frames


if __name__ == "__main__":
    sys.exit(main())
