"""A group of ranks: ``python -m attnbench.worker.ranks READ_FD WRITE_FD THREADS RANKS``.

This process starts the ranks with torchrun's machinery (``torch.distributed.elastic``), watches them, and names the one
that dies. It imports torch before it forks, so that the ranks need not. On SIGTERM it reports where each rank is.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, NoReturn

from attnbench.machine.hardware.pinning import pin_rank, processors_of_threads
from attnbench.stages.table import REQUESTS
from attnbench.transport.channel import die_with_parent, parents_channel
from attnbench.worker.memory.weighing import prepare_allocator
from attnbench.worker.ranks.follower import follow
from attnbench.worker.ranks.leader import Leader
from attnbench.worker.ranks.traffic import show_waits
from attnbench.worker.ranks.whereabouts import whereabouts
from attnbench.worker.worker import Worker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_LOOKS_S = 0.1
_TRACED_S = 0.3


@dataclasses.dataclass(frozen=True)
class _Group:
    """The group's settings, which every rank inherits."""

    ranks: int
    threads: int
    pipe: tuple[int, int]
    """Descriptors to the parent: for reading and for writing."""
    listening: socket.socket
    """The socket at which the ranks meet."""
    links: list[tuple[Connection, Connection]]
    """Links between rank 0 and each other rank: rank 0's end, and the other's."""
    traces: list[Any]
    """A file for each rank, to which it writes its trace."""

    def let_go(self, keeping: int | None = None) -> None:
        """Close what a rank does not need, so that others notice when a process ends; ``None`` is the ranks' parent."""
        for number, (leaders, followers) in enumerate(self.links, 1):
            if keeping != 0:
                leaders.close()
            if keeping != number:
                followers.close()
        if keeping != 0:
            self.listening.close()
            for fd in self.pipe:
                os.close(fd)


def main() -> None:
    """Start the ranks, and wait for the first one that ends."""
    die_with_parent()
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    logging.disable(logging.CRITICAL)  # elastic's report of a failure; the last line here is shorter
    read, write, threads, ranks = map(int, sys.argv[1:])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        links = [multiprocessing.Pipe() for _ in range(ranks - 1)]
        traces = [tempfile.TemporaryFile() for _ in range(ranks)]  # noqa: SIM115 - they live as long as this process
        group = _Group(ranks, threads, (read, write), listening, links, traces)
        logs = DefaultLogsSpecs(log_dir=os.devnull)
        everyone: dict[int, tuple[object, ...]] = {rank: (rank, group) for rank in range(ranks)}
        nothing: dict[int, dict[str, str]] = {rank: {} for rank in range(ranks)}
        started = start_processes("ranks", _rank, everyone, nothing, logs, start_method="fork")
    pids = started.pids()
    signal.signal(signal.SIGTERM, lambda *_: _tell_whereabouts(pids, traces))
    group.let_go()
    ended = started.wait(period=_LOOKS_S)
    for rank, failure in sorted((ended.failures if ended else {}).items()):
        by = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with {failure.exitcode}"
        _end(f"rank {rank} {by}")


def _rank(rank: int, group: _Group) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, file=group.traces[rank], all_threads=False)
    group.let_go(keeping=rank)
    pin_rank(rank, group.ranks, group.threads)
    prepare_allocator()
    worker = Worker(owns_process=True, processors=processors_of_threads() or None)
    _meet(rank, group)
    if rank:
        follow(group.links[rank - 1][1], worker, rank)
    else:
        leader = Leader(worker, [leaders for leaders, _ in group.links])
        parents_channel(*group.pipe).serve(REQUESTS, leader.answer)
    os._exit(0)  # closes its links, which processes that wait for it notice


def _meet(rank: int, group: _Group) -> None:
    """Create the default process group with gloo over the loopback interface."""
    import torch.distributed as dist
    from torch._C._distributed_c10d import TCPStore

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    port = group.listening.getsockname()[1] if rank == 0 else None
    if rank == 0:
        for leaders, _ in group.links:
            leaders.send(port)
        store = TCPStore("127.0.0.1", port or 0, group.ranks, is_master=True, master_listen_fd=group.listening.detach())
    else:
        store = TCPStore("127.0.0.1", group.links[rank - 1][1].recv(), group.ranks, is_master=False)
    show_waits()
    dist.init_process_group("gloo", store=store, rank=rank, world_size=group.ranks)


def _tell_whereabouts(pids: dict[int, int], traces: list[Any]) -> None:
    for pid in pids.values():
        os.kill(pid, signal.SIGUSR1)
    time.sleep(_TRACED_S)
    told = []
    for trace in traces:
        trace.seek(0)
        told.append(trace.read().decode(errors="replace"))
    _end(whereabouts(told))


def _end(words: str) -> NoReturn:
    """Print the words as the last line, which the parent reads, and exit."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
