"""An oracle that dies costs one cell, not the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnbench import make_case
from attnbench.cases.inputs.sample_inputs import Inputs
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.runner.oracle import Oracle, OracleGoneError
from attnbench.stages.agreement import JudgeOutputs, Select, Shape
from attnbench.transport.executor import ExecutorError

QUESTION = Select(case=make_case(seqlen_q=16), repetition=0)
SHAPES = {"out": Shape(shape=(1, 8, 16, 64), dtype="float32")}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    oracle = Oracle(1, worker_environment(1))
    yield oracle
    oracle.close()


def kill_oracle() -> None:
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    for child in children:
        if "attnbench.oracle" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)


def test_it_answers(oracle: Oracle) -> None:
    assert oracle.ask(QUESTION).selection["out"].shape == (1, 8, 16, 64)


def test_a_question_that_it_cannot_answer_is_an_answer(oracle: Oracle) -> None:
    with pytest.raises(ExecutorError, match="KeyError: 'out'") as caught:
        oracle.ask(
            JudgeOutputs(case=QUESTION.case, inputs=Inputs(), stores_scores=False, outputs=SHAPES)
        )  # and nothing shown
    assert not caught.value.is_gone
    assert oracle.ask(QUESTION).selection


def test_what_it_expects_it_answers_between(oracle: Oracle) -> None:
    """Also for a case without an answer, which only its own question reports."""
    oracle.expect(make_case(seqlen_q=16, seed=7), stores_scores=False)
    oracle.expect(make_case(seqlen_q=16, inputs="file:nothere.npz"), stores_scores=False)
    assert oracle.ask(QUESTION).selection["out"].shape == (1, 8, 16, 64)
    assert oracle.ask(QUESTION).selection


def test_when_it_dies_over_what_it_expects_the_next_question_tells(oracle: Oracle) -> None:
    oracle.ask(QUESTION)
    kill_oracle()
    oracle.expect(QUESTION.case, stores_scores=False)
    with pytest.raises(OracleGoneError, match="it was ended by SIGKILL"):
        oracle.ask(QUESTION)
    assert oracle.ask(QUESTION).selection


def test_when_it_dies_the_next_question_finds_a_fresh_one(oracle: Oracle) -> None:
    oracle.ask(QUESTION)
    kill_oracle()
    with pytest.raises(OracleGoneError, match="the oracle could not judge it: it was ended by SIGKILL"):
        oracle.ask(QUESTION)
    assert oracle.ask(QUESTION).selection
