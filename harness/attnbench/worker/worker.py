"""The state of a worker between requests, and its answers to anything that an implementation does."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from attnbench.machine.hardware.pinning import processors_of_threads
from attnbench.profiling import recording  # noqa: F401 - as what follows
from attnbench.transport.message import Failure
from attnbench.untrusted.exceptions import message_of

# Imported before any plug-in, so that a plug-in that replaces functions of numpy or the clock changes nothing in these.
from attnbench.worker import call, dump, identities, output_checks, tensors  # noqa: F401
from attnbench.worker.memory import weighing
from attnbench.worker.memory.allocator import allow, is_out_of_memory
from attnbench.worker.output_checks import MisconductError
from attnbench.worker.session import REPEAT_NS, Session, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Implementation
    from attnbench.registry.operands import Operands
    from attnbench.transport.message import AnswerMessage, Status
    from attnbench.worker.call import Call


class Served(Protocol):
    """A request that a worker can serve."""

    fails_as: ClassVar[Status]

    def serve(self, worker: Worker) -> AnswerMessage:
        """Serve the request, or raise any exception."""


@dataclasses.dataclass
class Worker:
    """An implementation, and the current cell."""

    implementation: Implementation | None = None
    owns_process: bool = False
    """Whether it may limit the memory and control garbage collection of the whole process."""
    repeat_ns: int = REPEAT_NS
    processors: frozenset[int] | None = None
    """Processors that the process was given, if it is pinned; read before any plug-in is imported."""
    bind: Callable[[Implementation, Case, str, Operands, int | None], Call] | None = None
    """Makes the cell's call in another way, if several processes share it."""
    _session: Session | None = None
    _ran: bool = False
    _loaded_bytes: int | None = None

    @property
    def session(self) -> Session:
        """The current cell."""
        if self._session is None:
            raise RuntimeError("no cell was begun")
        return self._session

    def begin(self, case: Case, device: str, memory_bytes: int | None) -> Session:
        """Begin a cell."""
        if self.implementation is None:
            raise RuntimeError("no implementation was loaded")
        self._session = Session(self.implementation, case, device, repeat_ns=self.repeat_ns)
        # CUDA reserves far more addresses than it uses, and the kernel's limit would count them.
        if self.owns_process:
            allow(memory_bytes if device == "cpu" else None)
        return self._session

    def loaded(self) -> None:
        """Remember the memory in use once an implementation is loaded; later growth belongs to the implementation."""
        self._loaded_bytes = weighing.settled_bytes()
        self._freeze()

    def held_bytes(self) -> int | None:
        """Return the memory that is held between calls since loading, without the inputs; ``None`` if it is unknown."""
        now = weighing.settled_bytes()
        if now is None or self._loaded_bytes is None:
            return None
        return max(0, now - self._loaded_bytes - output_checks.stored_bytes(self.session.placed()))

    def strayed(self) -> str | None:
        """Return a sentence if a thread may use other processors than the process was given, or ``None``."""
        if self.processors is None:
            return None
        others = sorted(processors_of_threads() - self.processors)
        if not others:
            return None
        given = ", ".join(map(str, sorted(self.processors)))
        return f"it was given processor {given}, and may use {', '.join(map(str, others))} too"

    def end(self) -> None:
        """End the cell, if there is one."""
        if self.owns_process and not self._ran:
            gc.unfreeze()  # what the first cell holds goes with it
        if self._session is not None:
            self._session.close()
        self._session = None
        if self.owns_process:
            if not self._ran:
                self._freeze()  # again, as some implementations import more in their first call
                self._ran = True
            allow(None)

    def _range(self, name: str) -> contextlib.AbstractContextManager[object]:
        """Return an NVTX range, which shows stages in Nsight's time lines, if the current cell is on a GPU."""
        if self._session is None or self._session.device != "cuda":
            return contextlib.nullcontext()
        import torch

        return torch.cuda.nvtx.range(f"attnbench {name}")

    def before_weighing(self) -> None:
        """Exclude what the first cell has imported from garbage collections until its end."""
        if not self._ran:
            gc.collect()
            self._freeze()

    def _freeze(self) -> None:
        """Exclude imported objects from garbage collections, since weighing a call makes ten of them."""
        if self.owns_process:
            gc.freeze()

    def answer(self, request: Served) -> AnswerMessage | Failure:
        """Serve a request; an exception becomes a status and a sentence."""
        try:
            with self._range(type(request).__name__):
                return request.serve(self)
        except UnsupportedError as refusal:
            return Failure(status="unsupported", reason=message_of(refusal))
        except MisconductError as error:
            return Failure(status="wrong", reason=message_of(error))
        except Exception as error:  # noqa: BLE001 - whatever an implementation raises is its answer
            return Failure(
                status="out_of_memory" if is_out_of_memory(error) else request.fails_as, reason=sentence(error)
            )


def sentence(error: Exception) -> str:
    """Return the type and the first line of an exception's message, and where it was raised."""
    message = message_of(error).strip().partition("\n")[0][:400]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{place}"
