"""The worker's loop: one request, one answer, until the parent hangs up.

``python -m attnbench.worker READ_FD WRITE_FD THREADS``. Every stage answers with data, or with a status and a
sentence; what cannot answer (a crash, a hang) is the parent's to notice.
"""

from __future__ import annotations

import faulthandler
import gc
import sys
import traceback
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

from attnbench.cases.case import CaseError, make_case
from attnbench.machine.pinning import pin
from attnbench.machine.warm_up_libraries import warm_up_torch
from attnbench.registry.discover import Origin, implementations_of, load_module
from attnbench.transport.pipe import Channel, Message, die_with_parent
from attnbench.worker.identities import Allowance
from attnbench.worker.limits import allow, is_out_of_memory
from attnbench.worker.memory import prepare_allocator
from attnbench.worker.output_checks import MisconductError
from attnbench.worker.session import Session, UnsupportedError
from attnbench.worker.timing import SamplingLimits

if TYPE_CHECKING:
    from attnbench.registry.implementation import Implementation


class Loop:
    """What the worker remembers between requests: its implementation and the cell at hand."""

    def __init__(self) -> None:
        self.implementation: Implementation | None = None
        self.session: Session | None = None
        self._frozen = False

    def load(self, request: Message) -> Message:
        """Import the implementation and the framework that it works on."""
        start = perf_counter_ns()
        origin = Origin(cast("Any", request["kind"]), request["target"])
        module = load_module(origin)
        named = [one for one in implementations_of(module) if one.declaration.name == request["implementation"]]
        if not named:
            raise LookupError(f"{origin} does not define {request['implementation']!r}")
        self.implementation = named[0]
        if self.implementation.declaration.framework == "torch":
            warm_up_torch(request["threads"])
        return {"load_ns": perf_counter_ns() - start}

    def prepare(self, request: Message) -> Message:
        """Begin a cell."""
        if self.implementation is None:
            raise RuntimeError("no implementation was loaded")
        self.session = Session(self.implementation, make_case(**request["case"]), request["device"])
        # CUDA reserves addresses far beyond what it uses, which the kernel's limit would count.
        allow(request["memory_bytes"] if request["device"] == "cpu" else None)
        return self.session.prepare()

    def call(self, request: Message) -> Message:
        """First and second call."""
        del request
        return self._cell().first_call()

    def fresh_call(self, request: Message) -> Message:
        """A call on inputs that were not seen before."""
        del request
        return self._cell().fresh_call()

    def identities(self, request: Message) -> Message:
        """Other ways to the latest result."""
        return self._cell().identities(Allowance(**request["allowance"]))

    def time(self, request: Message) -> Message:
        """Timed calls."""
        return self._cell().time(SamplingLimits(**request["limits"]), request["cache"])

    def warm_up(self, request: Message) -> Message:
        """Begin to time in blocks."""
        return self._cell().warm_up(request["cache"], **request["limits"])

    def block(self, request: Message) -> Message:
        """Some more timed calls."""
        return self._cell().block(request["samples"])

    def timed(self, request: Message) -> Message:
        """What all blocks gave."""
        del request
        return self._cell().timed()

    def further_times(self, request: Message) -> Message:
        """On an accelerator: wall time, and time in a graph."""
        del request
        return self._cell().further_times()

    def dump(self, request: Message) -> Message:
        """Show outputs to the oracle."""
        return self._cell().dump(request["selection"], Path(request["folder"]), request["result"])

    def memory(self, request: Message) -> Message:
        """Memory of one call."""
        del request
        return self._cell().memory()

    def backend(self, request: Message) -> Message:
        """What really ran."""
        del request
        return self._cell().backend()

    def close(self, request: Message) -> Message:
        """End the cell."""
        del request
        if self.session is not None:
            self.session.close()
        self.session = None
        if not self._frozen:
            gc.freeze()  # what was imported stays: collecting garbage between cells need not look at it again
            self._frozen = True
        allow(None)
        return {}

    def _cell(self) -> Session:
        if self.session is None:
            raise RuntimeError("no cell was begun")
        return self.session


def answer(loop: Loop, request: Message) -> Message:
    """Handle one request; whatever it raises becomes a status and a sentence."""
    handler = {
        "load": loop.load,
        "prepare": loop.prepare,
        "call": loop.call,
        "fresh_call": loop.fresh_call,
        "identities": loop.identities,
        "time": loop.time,
        "warm_up": loop.warm_up,
        "block": loop.block,
        "timed": loop.timed,
        "further_times": loop.further_times,
        "dump": loop.dump,
        "memory": loop.memory,
        "backend": loop.backend,
        "close": loop.close,
    }[request["do"]]
    try:
        return {"status": "ok", **handler(request)}
    except UnsupportedError as refusal:
        return {"status": "unsupported", "reason": str(refusal)}
    except MisconductError as error:
        return {"status": "wrong", "reason": str(error)}
    except CaseError as error:
        return {"status": "error", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever an implementation raises is its answer
        return {"status": _status(request, error), "reason": _sentence(error)}


def _status(request: Message, error: Exception) -> str:
    if is_out_of_memory(error):
        return "out_of_memory"
    return "unavailable" if request["do"] == "load" else "error"


def _sentence(error: Exception) -> str:
    """Type and first line of the message, and where it was raised."""
    message = str(error).strip().partition("\n")[0][:400]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"


def main() -> None:
    """Serve until the parent hangs up."""
    die_with_parent()
    faulthandler.enable()
    channel = Channel(int(sys.argv[1]), int(sys.argv[2]))
    pin(int(sys.argv[3]))
    prepare_allocator()
    loop = Loop()
    while (request := channel.receive()) is not None:
        channel.send(answer(loop, request))


if __name__ == "__main__":
    main()
