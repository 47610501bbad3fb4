"""Traffic of a call through ``torch.distributed``: recorded, replayed without the call, or left out.

The methods of torch's process groups are replaced for as long as it takes; every function of ``torch.distributed`` that
an implementation may call ends in one of them. Functional collectives (``_c10d_functional``) do not, and are not seen.
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
    """Everything but what stays."""
    rows = splits[group.rank()] if splits else given.shape[0] // group.size()
    return _bytes(given) - _bytes(given[:1]) * rows if given.shape[0] else 0


def _of_root(group: Any, how: Any, bytes_: int) -> int:
    """The bytes where this rank is the collective's root, else none."""
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
"""By the method of a process group: the bytes that this rank sends, of a method's arguments. What reduces counts as the
ring that it is at best."""


@dataclasses.dataclass
class Recording:
    """The collectives and messages of one rank in one call, in order."""

    sent_bytes: int = 0
    steps: list[Callable[[], Any] | None] = dataclasses.field(default_factory=list)
    """The operation that was started; ``None`` where the rank waited."""

    def repeat(self) -> None:
        """Send it again; where the rank waited, it waits for all that has begun."""
        begun: list[Any] = []
        for step in [*self.steps, None]:
            if step is not None:
                begun.append(step())
            else:
                while begun:
                    begun.pop(0).wait()


def show_waits() -> None:
    """From here on a rank that waits does so in a frame of this module, by which a trace tells that it waits."""
    from torch.distributed import Work

    wait_for = vars(Work)["wait"].__get__(None, Work)

    def wait(work: Any, *args: Any) -> Any:
        return wait_for(work, *args)

    Work.wait = wait  # type: ignore[method-assign, assignment]


@contextlib.contextmanager
def recorded() -> Iterator[Recording]:
    """Within it, what is sent is written down."""
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
    """Within it no floats are sent, and nobody waits for them: a call computes as much, on what lies in its buffers.

    Integers are sent: they are sizes and pickled objects, without which a call cannot go on.
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
    methods = {name: vars(owner)[name] for name in SENT}  # getattr would lose that they are methods
    for name, method in methods.items():
        setattr(owner, name, by(name, method))
    try:
        yield
    finally:
        for name, method in methods.items():
            setattr(owner, name, method)
