"""Ranks: computation and communication of several processes that share a call, and how far they overlap."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING

from pydantic import BaseModel

from attnbench.metrics.metric import Metrics, metric
from attnbench.registry.sends import Sends
from attnbench.stages.stage import CellRun, Stage, WorkerRequest
from attnbench.transport.message import AnswerMessage, CaseField

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnbench.worker.worker import Worker

_PASSES = 7
_WITHIN_NS = 5_000_000_000


class RankMetrics(Metrics, stage="ranks"):
    """Metrics of calls that several processes share; times are those of the slowest rank by its own clock."""

    ranks_compute_ns: float | None = metric(
        "compute", "A call whose communication is left out.", unit="ns", join="median", only_ok=True, better="lower"
    )
    ranks_communication_ns: float | None = metric(
        "communication", "What a call sends, sent again in the same order with nothing computed.", unit="ns",
        join="median", only_ok=True, better="lower",
    )  # fmt: skip
    ranks_exposed: float | None = metric(
        "exposed communication", "Share of a call that it takes longer than its compute alone.", unit="ratio",
        join="median", only_ok=True, better="lower",
    )  # fmt: skip
    ranks_overlap: float | None = metric(
        "overlap", "Share of the communication alone that is not exposed.", unit="ratio", join="median", only_ok=True,
        better="higher",
    )  # fmt: skip
    ranks_imbalance: float | None = metric(
        "imbalance", "How much longer the slowest rank computes than the mean of all.", unit="ratio", join="median",
        only_ok=True, better="lower",
    )  # fmt: skip
    ranks_sent_bytes: int | None = metric(
        "sent", "Bytes that all ranks together send in a call, counted where they are sent; equal to the "
        "implementation's own formula, where it has one.", unit="bytes", only_ok=True, better="lower",
    )  # fmt: skip


class RanksMeasured(RankMetrics, AnswerMessage):
    """The measurements of a call by its ranks."""

    due_bytes: int | None
    """Bytes sent per call by the implementation's formula."""


class MeasureRanks(WorkerRequest[RanksMeasured]):
    """Time the whole call, its computation alone and its communication alone, in turns."""

    passes: int = _PASSES

    def serve(self, worker: Worker) -> RanksMeasured:
        from attnbench.worker.ranks.leader import RankCall

        session = worker.session
        call = session.prepared()
        assert isinstance(call, RankCall)  # the stage runs only for cells with ranks
        formula = session.implementation.sends_hook
        call.set_up()
        _, sent = call.watch("record")
        times: dict[str, list[list[int]]] = {"call": [], "compute": [], "communicate": []}
        began = time.perf_counter_ns()
        for _ in range(self.passes):
            for how, passes in times.items():
                passes.append(call.watch(how)[0])
            if time.perf_counter_ns() - began > _WITHIN_NS:
                break
        whole, compute, communication = ([max(of_ranks) for of_ranks in passes] for passes in times.values())
        exposed = max(0.0, statistics.median(a - b for a, b in zip(whole, compute, strict=True)))
        alone = statistics.median(communication)
        by_rank = [statistics.median(of_rank) for of_rank in zip(*times["compute"], strict=True)]
        return RanksMeasured(
            ranks_compute_ns=statistics.median(compute),
            ranks_communication_ns=alone if sent else None,
            ranks_exposed=exposed / statistics.median(whole) if sent else None,
            ranks_overlap=min(1.0, max(0.0, 1 - exposed / alone)) if sent else None,
            ranks_imbalance=max(by_rank) / statistics.mean(by_rank) - 1,
            ranks_sent_bytes=sent,
            due_bytes=None if formula is None else sum(one.bytes for one in formula(session.case, call.tokens.ranks)),
        )


class OnRanks(BaseModel):
    """The result of an implementation's formula for a case on a number of ranks."""

    refused: str | None = None
    """Why the case cannot run on that number of ranks."""
    sends: tuple[Sends, ...] = ()


class Formulas(AnswerMessage):
    """An answer for each case, in the same order."""

    told: tuple[OnRanks, ...]


class AskSends(WorkerRequest[Formulas]):
    """Ask what would be sent on any number of ranks, without starting them."""

    cases: tuple[tuple[CaseField, int], ...]
    """Cases, each with its number of ranks."""
    device: str

    def serve(self, worker: Worker) -> Formulas:
        from attnbench.worker.call import refusal

        implementation = worker.implementation
        assert implementation is not None  # loaded before anything else is asked
        formula = implementation.sends_hook
        if formula is None:
            return Formulas(told=tuple(OnRanks(refused="it has no formula: @f.sends") for _ in self.cases))
        told = []
        for case, ranks in self.cases:
            with _as_if_on(ranks):
                refused = refusal(implementation, case, self.device)
                told.append(OnRanks(refused=refused) if refused else OnRanks(sends=tuple(formula(case, ranks))))
        return Formulas(told=tuple(told))


@contextlib.contextmanager
def _as_if_on(ranks: int) -> Iterator[None]:
    """Make torch's default process group one of ``ranks`` fake ranks, as hooks ask for it; nothing can be sent."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def run(cell: CellRun) -> None:
    """Measure; a cell whose ranks send another number of bytes than its formula says is invalid."""
    answer = cell.ask(MeasureRanks())
    if answer.due_bytes is not None and answer.due_bytes != answer.ranks_sent_bytes:
        cell.end(
            "invalid", f"its ranks sent {answer.ranks_sent_bytes:,} bytes, and by its formula {answer.due_bytes:,}"
        )
    cell.keep(answer)


STAGE = Stage(
    name="ranks",
    requests=(MeasureRanks, AskSends),
    run=run,
    is_wanted=lambda cell: cell.ranks is not None and cell.limits.timed,
)
