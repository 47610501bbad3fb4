"""Readers of each kind of input, up to the views. A refusal is a sentence; any other exception is a bug."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

from attnbench.cases.case import CaseError, make_case
from attnbench.cases.inputs.operands import file_problems, operand
from attnbench.errors import AttnbenchError
from attnbench.oracle.oracle import Adjudicator
from attnbench.registry.implementation import Implementation, attention
from attnbench.runner.driver import drive, without_pauses
from attnbench.runner.planning.request import request_from
from attnbench.stages import backend, memory
from attnbench.stages.stage import CellLimits, CellRun
from attnbench.stages.table import CHECKED
from attnbench.store.reader import frame_of, read_run
from attnbench.store.record import record_of
from attnbench.sweep.expand import adhoc, expand, parse_overrides
from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import Scenario
from attnbench.transport.executor import InProcess, succeeded
from attnbench.transport.message import AnswerMessage, Failure, Reader, RequestMessage, encode, opened
from attnbench.views.compare import compare_implementations, compare_runs
from attnbench.views.compare_view import view_of
from attnbench.views.document import View, as_csv, as_json, markdown
from attnbench.views.forms.terminal import as_text
from attnbench.views.report.content import report_of
from attnbench.views.report.page import html_page, markdown_page
from attnbench.views.show import show
from attnbench.worker.worker import Worker
from tests.fuzz import strategies

A = TypeVar("A", bound=AnswerMessage)
CASE = make_case(batch=1, heads_q=2, seqlen_q=4, head_dim=8)
_FEW_CELLS = 200


@contextlib.contextmanager
def file(suffix: str, data: bytes) -> Iterator[Path]:
    """Write a file named ``fuzz`` with these bytes into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"fuzz{suffix}"
        path.write_bytes(data)
        yield path


def read_scenario(data: bytes) -> None:
    """Read a scenario file, expand its cases, and restore it from a header's copy."""
    with file(".toml", data) as path:
        scenario = load_scenario(str(path))
    for planned in expand(scenario, {})[:_FEW_CELLS]:
        scenario.excluded(planned.case, device="cpu", implementation="naive/torch")
        planned.case.label()
    assert Scenario.from_dict(scenario.to_dict()) == scenario


def read_axes(texts: list[str]) -> None:
    """Read axes of a command line, and make cases and the sizes of their tensors."""
    for planned in expand(adhoc(), parse_overrides(texts))[:_FEW_CELLS]:
        planned.case.label()
        file_problems(planned.case)


def read_tensors(given: tuple[str, bytes]) -> None:
    """Read a tensor file as the tensors of a case."""
    with file(*given) as path:
        case = make_case(batch=1, heads_q=2, seqlen_q=4, head_dim=8, inputs=f"file:{path}")
        if problems := file_problems(case):
            raise CaseError(problems)
        for name in "qkv":
            assert operand(case, name).shape == strategies.SHAPE


def read_run_file(data: bytes) -> None:
    """Read a run file, render every view in every form, and restore the request as a resumed run does."""
    with file(".jsonl", data) as path:
        run = read_run(path)
    shown(show(run))
    frame_of([run])
    with contextlib.suppress(AttnbenchError):
        shown(view_of(compare_implementations(run)))
    with contextlib.suppress(AttnbenchError):
        shown(view_of(compare_implementations(run, next(iter(run.records), {}).get("implementation"))))
    with contextlib.suppress(AttnbenchError):
        shown(view_of(compare_runs(run, run)))
    report = report_of([run])
    markdown_page(report)
    html_page(report)
    request_from(run.header.request)


def shown(view: View) -> None:
    """Render a view in every form, and encode each."""
    for text in (as_text(view), markdown(view), as_csv(view), as_json(view)):
        text.encode()
        assert "\x1b" not in text


HOOKS = ("call", "supports", "prepare", "backend", "available")
hooks = st.tuples(st.sampled_from(HOOKS), strategies.returned)


def listen(given: tuple[str, object]) -> None:
    """Pass a hook's return value through the messages of processes to the record of a cell."""
    hook, said = given
    values = without_pauses(drive(CellRun(_worker(_saying(hook, said)), _Oracle(), CASE, "cpu", _LIMITS), _STAGES))
    record_of({**_ABOUT, **CASE.to_dict(), **values}).model_dump_json().encode()


_LIMITS = CellLimits(time_s=60.0, memory_bytes=None, measures=frozenset({"memory"}))
_STAGES = (*CHECKED, memory.STAGE, backend.STAGE)
_ABOUT = {
    "run_id": "a", "record_id": "a", "case_id": CASE.case_id, "implementation": "fuzz/a", "repro": "a", "device": "cpu",
}  # fmt: skip


def _saying(hook: str, said: object) -> Implementation:
    def say(*_: Any) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    @attention("fuzz/a")
    def kernel(q: Any, k: Any, v: Any, case: Any) -> Any:
        return say() if hook == "call" else q

    if hook != "call":
        getattr(kernel, hook)(say)
    return kernel


def _worker(implementation: Implementation) -> InProcess:
    worker = Worker(implementation, repeat_ns=0)

    def answer(request: Any) -> AnswerMessage | Failure:
        sent = encode(worker.answer(request))
        received: AnswerMessage | Failure = opened(Reader().message(lambda: sent), request.answer_type(), Failure)
        return received

    return InProcess(answer)


class _Oracle:
    def __init__(self) -> None:
        self._oracle = Adjudicator(guesses=True)

    def ask(self, request: RequestMessage[A]) -> A:
        return succeeded(request, self._oracle.answer(request))


Target = Callable[[Any], None]
TARGETS: dict[str, tuple[st.SearchStrategy[Any], Target]] = {
    "scenario": (strategies.scenarios, read_scenario),
    "axes": (strategies.axes, read_axes),
    "tensors": (strategies.tensor_files, read_tensors),
    "run": (strategies.run_files(), read_run_file),
    "hooks": (hooks, listen),
}


def survives(target: Target, given: object) -> str | None:
    """Pass an input to a target; return the sentence with which it is refused, or ``None``. Others are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            target(given)
        except AttnbenchError as refusal:
            sentence = str(refusal)
            assert sentence.strip(), "a refusal says why"
            return sentence
    return None
