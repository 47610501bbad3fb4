"""Reads the model's inputs from a run: its cells of ranks, and the send formulas of their implementations."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from attnbench.cases.cost import flops
from attnbench.cases.counting import cannot_be_counted
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.predicting.model import Measured, PredictError, Work
from attnbench.stages.prepare import Load
from attnbench.stages.ranks import AskSends
from attnbench.store.machines import by_machine
from attnbench.transport.executor import ExecutorError
from attnbench.transport.host import LOCAL_HOST
from attnbench.units import count, length
from attnbench.untrusted.printable import in_one_line
from attnbench.views.cells import cells_of
from attnbench.views.groups import group_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attnbench.cases.case import Case
    from attnbench.registry.found import Found
    from attnbench.stages.ranks import OnRanks
    from attnbench.store.reader import RunFile
    from attnbench.transport.executor import Executor
    from attnbench.views.cells import CellResult

_WITHIN_S = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A call to predict."""

    length: int
    ranks: int
    work: Work | None
    refused: str | None
    """The implementation's reason for refusing this call, if it does."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One implementation on cases that differ only in length."""

    implementation: str
    label: str
    """The case without its length; empty if all families share it."""
    measured: tuple[Measured, ...]
    asked: tuple[Asked, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of ranks in a run."""

    common: str
    """Description that all cases share."""
    families: tuple[Family, ...]
    left_out: tuple[str, ...]
    """A sentence per reason for leaving cells out."""


def read_cells(run: RunFile, found: Sequence[Found], ranks: Sequence[int], lengths: Sequence[int]) -> Cells:
    """Read the cells of ranks, and ask their implementations what they would send on other numbers of ranks.

    Args:
        run: the run.
        found: the registry with their implementations; paths in a run file are not trusted.
        ranks: numbers of ranks to predict.
        lengths: sequence lengths to predict; empty for the longest measured one.

    Raises:
        PredictError: if there is no such cell, or an implementation is missing or now sends something else.
    """
    name = in_one_line(run.path)
    if len(by_machine(run)) > 1:
        raise PredictError(f"{name} is of several kinds of machines, and a fit is of one")
    threads = run.header.threads
    every = [cell for cell in cells_of(run) if cell.metrics.ranks_compute_ns is not None]
    cells = [cell for cell in every if _ranks(cell) <= threads]
    apart = f"{count(len(every) - len(cells), 'cell')} of more ranks than the {threads} threads that these share"
    if not cells:
        why = f"but for {apart}" if every else "that ranks share"
        raise PredictError(f"{name} has no cell {why}: attnbench run long-context makes some")
    grouping = group_cells(cells)
    families = []
    with _workers() as workers:
        for group in grouping.groups:
            for implementation in dict.fromkeys(_name(cell) for cell in group.cells):
                of_name = [cell for cell in group.cells if _name(cell) == implementation]
                wanted = [
                    (_at(of_name[-1].case, tokens, group.seqlen_q), of_ranks)
                    for tokens in lengths or group.lengths[-1:]
                    for of_ranks in ranks
                ]
                asked = [*((cell.case, _ranks(cell)) for cell in of_name), *wanted]
                told = _formulas(workers, implementation, of_name[0].device, asked, found)
                measured = tuple(map(_measured, of_name, told))
                asked_for = tuple(map(_asked, wanted, told[len(of_name) :]))
                families.append(
                    Family(implementation=implementation, label=group.label, measured=measured, asked=asked_for)
                )
    left_out = (f"Left out: {apart}.",) if len(cells) < len(every) else ()
    return Cells(common=grouping.common, families=tuple(families), left_out=left_out)


def _measured(cell: CellResult, said: OnRanks) -> Measured:
    metrics = cell.metrics
    due, sent = sum(one.bytes for one in said.sends), metrics.ranks_sent_bytes or 0
    if said.refused or due != sent:
        why = said.refused or f"{due:,} by its formula"
        raise PredictError(f"{cell.implementation} is not what was measured: it sent {sent:,} bytes, and now: {why}")
    compute, exposed, time = metrics.ranks_compute_ns or 0.0, metrics.ranks_exposed or 0.0, cell.time_ns or 0.0
    if compute <= 0 or time <= 0 or not 0 <= exposed <= 1 or (metrics.ranks_communication_ns or 0) < 0:
        raise PredictError(f"{cell.implementation}: its times of ranks cannot be true")
    return Measured(
        work=_work(cell.case, _ranks(cell), said),
        compute_ns=compute,
        communication_ns=metrics.ranks_communication_ns,
        exposed_ns=time * exposed,
    )


def _asked(wanted: tuple[Case, int], said: OnRanks) -> Asked:
    case, ranks = wanted
    work = None if said.refused else _work(case, ranks, said)
    return Asked(length=case.seqlen_kv, ranks=ranks, work=work, refused=said.refused)


def _work(case: Case, ranks: int, said: OnRanks) -> Work:
    return Work(ranks=ranks, flops=float(flops(case)), sends=said.sends)


@contextlib.contextmanager
def _workers() -> Iterator[dict[str | None, Executor]]:
    """Yield workers by interpreter, filled on demand and closed at the end; formulas are code of implementations."""
    started: dict[str | None, Executor] = {}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.close()


def _formulas(
    workers: dict[str | None, Executor], name: str, device: str, cases: Sequence[tuple[Case, int]],
    found: Sequence[Found],
) -> tuple[OnRanks, ...]:  # fmt: skip
    one = next((one for one in found if one.name == name), None)
    if one is None or one.unavailable:
        why = "is not here: name its file with --plugin" if one is None else f"cannot be asked: {one.unavailable}"
        raise PredictError(f"{in_one_line(name)} {why}")
    interpreter = one.declaration.interpreter if one.declaration else None
    if interpreter not in workers:
        workers[interpreter] = LOCAL_HOST.start_worker(1, worker_environment(1), interpreter)
    worker = workers[interpreter]
    try:
        worker.ask(Load(kind=one.origin.kind, target=one.origin.target, implementation=name, threads=1), _WITHIN_S)
        return worker.ask(AskSends(cases=tuple(cases), device=device), _WITHIN_S).told
    except ExecutorError as error:
        raise PredictError(f"{name} cannot tell what it sends: {error.reason}") from error


def _at(case: Case, tokens: int, seqlen_q: int | None) -> Case:
    """Return the case with another length.

    Raises:
        PredictError: if its pairs of tokens cannot be counted.
    """
    longer = dataclasses.replace(case, seqlen_q=tokens if seqlen_q is None else seqlen_q, seqlen_kv=tokens)
    if why := cannot_be_counted(longer):
        raise PredictError(f"{length(tokens)} tokens cannot be predicted: {why}")
    return longer


def _ranks(cell: CellResult) -> int:
    record: Mapping[str, object] = cell.counted[0]
    assert isinstance(record["ranks"], int)
    return record["ranks"]


def _name(cell: CellResult) -> str:
    return cell.implementation.rpartition("@")[0]
