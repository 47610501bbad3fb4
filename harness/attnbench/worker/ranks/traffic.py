"""Traffic of a call through ``torch.distributed``: recorded, replayed without the call, or left out.

Methods of torch's process groups are replaced for that time; every function of ``torch.distributed`` that an
implementation can call ends in one of them, except functional collectives (``_c10d_functional``), which are not seen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _bytes(tensors: Any) -> int:
    several = tensors if isinstance(tensors, list | tuple) else [tensors]
    return sum(one.numel() * one.element_size() for one in several)


def _all_to_all(group: Any, output: Any, given: Any, out_splits: Any = (), splits: Any = (), *_: Any) -> int:
    """Return the bytes of all rows except those that stay on this rank."""
    rows = splits[group.rank()] if splits else given.shape[0] // group.size()
    return _bytes(given) - _bytes(given[:1]) * rows if given.shape[0] else 0


def _of_root(group: Any, how: Any, bytes_: int) -> int:
    """Return the bytes if this rank is the collective's root, else 0."""
    return bytes_ if how.rootRank == group.rank() else 0


SENT: dict[str, Callable[..., int]] = {
    "send": lambda group, tensors, *_: _bytes(tensors),
    "recv": lambda *_: 0,
    "recv_anysource": lambda *_: 0,
    "barrier": lambda *_: 0,
    "broadcast": lambda group, tensors, how, *_: _of_root(group, how, _bytes(tensors) * (group.size() - 1)),
    "scatter": lambda group, outs, ins, how, *_: _of_root(group, how, _bytes(outs) * (group.size() - 1)),
    "gather": lambda group, outs, ins, how, *_: _bytes(ins) - _of_root(group, how, _bytes(ins)),
    "reduce": lambda group, tensors, how, *_: _bytes(tensors) - _of_root(group, how, _bytes(tensors)),
    "all_to_all_single": _all_to_all,
    "alltoall": lambda group, outs, ins, *_: _bytes(ins) - _bytes(ins[group.rank()]),
    "allgather": lambda group, outs, ins, *_: _bytes(ins) * (group.size() - 1),
    "all_gather_single": lambda group, out, given, *_: _bytes(given) * (group.size() - 1),
    "allgather_coalesced": lambda group, outs, ins, *_: _bytes(ins) * (group.size() - 1),
    "all_gather_single_coalesced": lambda group, outs, ins, *_: _bytes(ins) * (group.size() - 1),
    "allreduce_coalesced": lambda group, tensors, *_: 2 * _bytes(tensors) * (group.size() - 1) // group.size(),
    "allreduce": lambda group, tensors, *_: 2 * _bytes(tensors) * (group.size() - 1) // group.size(),
    "reduce_scatter": lambda group, outs, ins, *_: _bytes(ins[0]) * (group.size() - 1) // group.size(),
    "reduce_scatter_single_coalesced": lambda group, outs, ins, *_: _bytes(ins) * (group.size() - 1) // group.size(),
    "reduce_scatter_single": lambda group, out, given, *_: _bytes(given) * (group.size() - 1) // group.size(),
}
"""By method of a process group: a function of its arguments that returns the bytes which this rank sends. Reductions
count as a ring, their best case.
"""


@dataclasses.dataclass
class Recording:
    """The collectives and messages of one rank in one call, in order."""

    sent_bytes: int = 0
    steps: list[Callable[[], Any] | None] = dataclasses.field(default_factory=list)
    """The operations that were started; ``None`` marks a wait."""

    def repeat(self) -> None:
        """Send everything again; at a wait, all operations that have begun are waited for."""
        begun: list[Any] = []
        for step in [*self.steps, None]:
            if step is not None:
                begun.append(step())
            else:
                while begun:
                    begun.pop(0).wait()


def show_waits() -> None:
    """Make ranks wait in a frame of this module from now on, so that a trace shows that they wait."""
    from torch.distributed import Work

    wait_for = vars(Work)["wait"].__get__(None, Work)

    def wait(work: Any, *args: Any) -> Any:
        return wait_for(work, *args)

    Work.wait = wait  # type: ignore[method-assign, assignment]


@contextlib.contextmanager
def recorded() -> Iterator[Recording]:
    """Record what is sent within the block."""
    from torch.distributed import ProcessGroup, Work

    recording = Recording()
    waits: Any = vars(Work)["wait"]
    wait_for = waits.__get__(None, Work)

    def watched(name: str, method: Any) -> Any:
        bound = method.__get__(None, ProcessGroup)

        def begin(group: Any, *args: Any, **rest: Any) -> Any:
            recording.sent_bytes += SENT[name](group, *args)
            recording.steps.append(functools.partial(bound, group, *args, **rest))
            return bound(group, *args, **rest)

        return begin

    def wait(work: Any, *args: Any) -> Any:
        recording.steps.append(None)
        return wait_for(work, *args)

    with _replaced(ProcessGroup, watched):
        Work.wait = wait  # type: ignore[method-assign, assignment]
        try:
            yield recording
        finally:
            Work.wait = waits  # type: ignore[method-assign]


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Send no floats within the block, and do not wait for them: a call does the same work on its buffers' contents.

    Integers are sent, as they are sizes and pickled objects that a call needs.
    """
    from torch._C._distributed_c10d import FakeWork
    from torch.distributed import ProcessGroup

    def without_floats(name: str, method: Any) -> Any:
        bound = method.__get__(None, ProcessGroup)

        def begin(*args: Any, **rest: Any) -> Any:
            return bound(*args, **rest) if any(_integers([*args, *rest.values()])) else FakeWork()

        return begin

    with _replaced(ProcessGroup, without_floats):
        yield


def _integers(args: Any) -> Iterator[bool]:
    """Yield, for each tensor of the arguments and their lists, whether it holds integers."""
    import torch

    for one in args:
        if isinstance(one, torch.Tensor):
            yield not one.is_floating_point()
        elif isinstance(one, list | tuple):
            yield from _integers(one)


@contextlib.contextmanager
def _replaced(owner: Any, by: Callable[[str, Any], Any]) -> Iterator[None]:
    methods = {name: vars(owner)[name] for name in SENT}  # getattr would unbind the methods
    for name, method in methods.items():
        setattr(owner, name, by(name, method))
    try:
        yield
    finally:
        for name, method in methods.items():
            setattr(owner, name, method)
