"""Finds out from the traces of the ranks' main threads which of them communicate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FRAME = re.compile(r'File "(.*)", line (\d+) in (.*)')
_COMMUNICATION = ("/torch/distributed/", "/attnbench/worker/ranks/", "/multiprocessing/connection.py")
_FURTHER_OUT = ("/torch/", "/attnbench/worker/", "/multiprocessing/", "/attnbench/transport/", "<frozen ")


def whereabouts(traces: Sequence[str]) -> str:
    """Say in a sentence where each rank is, those first for which the others wait.

    Args:
        traces: the output of ``faulthandler`` for each rank, innermost frame first; empty if it did not answer.
    """
    waiting, busy = [], []
    for rank, trace in enumerate(traces):
        frames = _FRAME.findall(trace)
        place = next((frame for frame in frames if not any(part in frame[0] for part in _FURTHER_OUT)), None)
        at = f" at {_short(place)}" if place else ""
        if not frames:
            busy.append(f"rank {rank} does not answer")
        elif any(part in frames[0][0] for part in _COMMUNICATION):
            waiting.append(f"rank {rank} waits for another{at}")
        else:
            busy.append(f"rank {rank} is{at or ' in the harness'}")
    return "; ".join([*busy, *waiting])


def _short(frame: tuple[str, str, str]) -> str:
    path, line, function = frame
    return f"{Path(path).name}, line {line} in {function}"
