"""``attnbench.capture``: a model's attention as a scenario."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from attnbench.api.results import CapturedModel
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

Tensors = Literal["none", "first"] | int
_MOST_TENSORS = 1000


@contextlib.contextmanager
def capture(out: str | os.PathLike[str], *, tensors: Tensors = "none", force: bool = False) -> Iterator[CapturedModel]:
    """Capture the attention calls of the block, forward and backward, as a scenario that can be run and replayed.

    Any torch code is seen: transformers' attention interface, ``scaled_dot_product_attention``,
    ``nn.MultiheadAttention`` and products around a softmax. Within the block compiled models run uncompiled. The folder
    is written when the block ends, also when it raises.

    Args:
        out: the folder to write: ``scenario.toml``, ``capture.json`` and ``tensors``.
        tensors: of which calls of each shape queries, keys and values are kept: none, the first, or the first so many,
            each as a shape of its own. Masks and biases that no kind says are always kept.
        force: replace a capture that is there already.

    Yields:
        What is captured; print it after the block for the table.

    Raises:
        UsageError: when the folder is there already, or cannot be written, or a block of another thread is open.
    """
    from attnbench.capturing.session import Session
    from attnbench.store.capture import CAPTURE
    from attnbench.store.whole_folder import require_room, whole_folder

    folder, most = Path(out), number_of_tensors(tensors)
    require_room(folder, "capture", CAPTURE, force=force)
    more = ("" if tensors == "none" else f", tensors={tensors!r}") + (", force=True" if force else "")
    captured = CapturedModel(folder)
    raised: BaseException | None = None
    with whole_folder(folder) as made:
        session = Session(made, most, f"attnbench.capture({str(out)!r}{more})")
        try:
            with session.capturing():
                yield captured
        except BaseException as error:  # noqa: BLE001 - raised below, when what was captured is written
            raised = error
        session.write()
    if raised is not None:
        raise raised


def capture_program(program: Sequence[str], out: Path, tensors: Tensors, *, force: bool) -> tuple[CapturedModel, int]:
    """Capture a Python program that runs in a process of its own, and has this one's streams.

    Returns:
        What is captured, and the program's exit code.

    Raises:
        UsageError: when it is no Python program, when it ended without its capture, or as :func:`capture`.
    """
    from attnbench.capturing.launch import Program
    from attnbench.capturing.program import Settings
    from attnbench.store.capture import CAPTURE
    from attnbench.store.whole_folder import require_room, whole_folder

    asked, most = Program.of(program), number_of_tensors(tensors)
    require_room(out, "capture", CAPTURE, force=force)
    words = ["attnbench", "capture", "--out", str(out), *([] if tensors == "none" else ["--tensors", str(tensors)])]
    with whole_folder(out) as made:
        command = shlex.join([*words, "--", *program])
        settings = Settings(folder=str(made), tensors=most, command=command, start=asked.start)
        code = asked.run("attnbench.capturing.program", settings)
        if not (made / CAPTURE).is_file():
            raise UsageError(f"the program ended with exit code {code} before its capture was written")
    return CapturedModel(out), code


def number_of_tensors(tensors: Tensors) -> int:
    """Return how many calls of each shape keep their tensors.

    Raises:
        UsageError: where that is no number of calls.
    """
    most = {"none": 0, "first": 1}.get(str(tensors), tensors)
    if not isinstance(most, int) or not 0 <= most <= _MOST_TENSORS:
        raise UsageError(f"tensors = {tensors!r} is neither none, first, nor a number of calls up to {_MOST_TENSORS}")
    return most
