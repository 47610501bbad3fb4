"""A capture, from interception to the written folder."""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from typing import TYPE_CHECKING

import torch

from attnbench.capturing.distinct import distinct_calls
from attnbench.capturing.handler import CapturingHandler
from attnbench.capturing.model_time import ModelTime
from attnbench.capturing.scenario import write_scenario
from attnbench.interception import intercept
from attnbench.interception.hooks.function_mode import seconds_of_a_look
from attnbench.store.capture import SCENARIO, TENSORS, Capture, CapturedCall, UnmatchedCall, write_capture
from attnbench.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from attnbench.capturing.distinct import Distinct
    from attnbench.interception import AttentionCall


class Session:
    """Captures the attention within :meth:`capturing`, and writes it.

    Queries, keys and values of the first ``tensors`` calls of each kind are kept; ``command`` is the command line that
    reproduces the capture.
    """

    def __init__(self, folder: Path, tensors: int, command: str) -> None:
        self._folder = folder
        self._command = command
        self._handler = CapturingHandler(folder, tensors)
        self._model = ModelTime()
        self._outside_of_modules = False
        self._wall_s = 0.0
        self._looks = 0
        self._own_ns = 0
        self._met: set[type[torch.nn.Module]] = set()

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """Capture the attention of the block."""
        began = time.perf_counter()
        with intercept(self._answer, self._handler.tell_unmatched, self._model.running) as interceptor:
            self._model.looks = lambda: interceptor.functions
            try:
                yield
            finally:
                self._wall_s += time.perf_counter() - began
                self._looks += interceptor.functions
                self._own_ns += interceptor.own_ns
                self._met |= interceptor.modules.met

    def _answer(self, call: AttentionCall) -> Tensor:
        self._outside_of_modules |= not self._model.is_running
        return self._handler(call)

    def write(self) -> Capture:
        """Write the folder; the scenario only if there is a call.

        Raises:
            OSError: if it cannot be written.
        """
        calls = distinct_calls(self._handler.tallies())
        names = write_scenario(calls, self._command, self._folder) if calls else []
        self._remove_what_nothing_refers_to(calls)
        whole, looks = self._wall_s, self._looks
        if not self._outside_of_modules:
            whole, looks = self._model.seconds, self._model.looks_within
        overhead = min(whole, (self._handler.own_ns + self._own_ns) / 1e9 + looks * seconds_of_a_look())
        capture = Capture(
            command=self._command[:4096],
            versions=_versions(),
            device=", ".join(sorted(self._handler.devices)) or "cpu",
            threads=torch.get_num_threads(),
            total_seconds=whole - overhead,
            attention_seconds=sum(call.seconds for call in calls),
            overhead_seconds=overhead,
            calls=tuple(_stored(name, call) for name, call in zip(names, calls, strict=True)),
            unmatched=tuple(
                UnmatchedCall(what=what[:4096], calls=n, reason=reason[:4096])
                for (what, reason), n in self._handler.unmatched.most_common()
            ),
            notes=tuple(self._notes()),
        )
        write_capture(capture, self._folder)
        return capture

    def _notes(self) -> list[str]:
        """Return sentences that a reader of the figures must know."""
        notes = []
        if any(kind.__name__ == "OptimizedModule" for kind in self._met):
            notes.append("a compiled model ran uncompiled: compiled code hides its attention")
        if any(issubclass(kind, torch.nn.TransformerEncoderLayer | torch.nn.MultiheadAttention) for kind in self._met):
            notes.append("torch's fused path of encoder layers, which inference takes, was off: it hides its attention")
        if self._handler.dropouts:
            shares = ", ".join(f"{share:g}" for share in sorted(self._handler.dropouts))
            notes.append(f"the model drops probabilities at random ({shares}); no case does")
        return notes

    def _remove_what_nothing_refers_to(self, calls: Sequence[Distinct]) -> None:
        """Remove tensors of calls that another call represents."""
        scenario = (self._folder / SCENARIO).read_text(encoding="utf-8") if calls else ""
        for path in (self._folder / TENSORS).glob("*"):
            if path.name not in scenario:
                path.unlink()


def _stored(name: str, call: Distinct) -> CapturedCall:
    return CapturedCall(
        shape=name,
        calls=call.calls,
        layers=call.layers,
        seconds=call.seconds,
        api=call.tally.api,
        seqlen_q=call.seqlen_q,
        seqlen_kv=call.seqlen_kv,
        memory=call.memory,
    )


def _versions() -> dict[str, str]:
    """Return the versions of attnbench, Python, torch, and of transformers if the program has imported it."""
    versions = {"attnbench": VERSION, "python": platform.python_version(), "torch": str(torch.__version__)}
    transformers = sys.modules.get("transformers")
    return versions | ({"transformers": str(transformers.__version__)} if transformers else {})
