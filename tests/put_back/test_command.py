"""``attnbench use`` runs a program with an implementation; ``--verify`` compares it with the unchanged program."""

from __future__ import annotations

import json
import sys

import pytest

from tests.conftest import Command
from tests.put_back.models import KERNEL

PROGRAM = """
import sys, torch
from tests.put_back.models import Model, tokens
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    loss = model(tokens(), is_causal=True).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(sys.argv[1:], torch.rand(1).item() >= 0)
"""


@pytest.fixture
def script(attnbench: Command) -> str:
    (attnbench.folder / "train.py").write_text(f"import sys\nsys.path.append({sys.path[0]!r})\n{PROGRAM}")
    return "train.py"


def test_a_program_runs_with_an_implementation_and_keeps_its_output_and_code(attnbench: Command, script: str) -> None:
    done = attnbench.process("use", "numba/flash", "--", script, "--out", "x")
    assert (done.code, done.out) == (0, "['--out', 'x'] True\n"), done.err
    assert done.err.endswith("numba/flash computed 6 of 6 attention calls\n")
    line = "import sys, torch\nq = torch.zeros(1, 1, 4, 4)\n@ERROR@\nsys.exit(7)"
    failed = attnbench.process("use", "numba/flash", "--", "-c", line.replace("@ERROR@", "raise KeyError('mine')"))
    assert failed.code == 1
    assert "attnbench/" not in failed.err
    ended = attnbench.process("use", "numba/flash", "--", "-c", line.replace("@ERROR@", ""))
    assert (ended.code, ended.err) == (7, "numba/flash computed 0 of 0 attention calls\n")


def test_a_program_is_compared_with_itself(attnbench: Command, script: str) -> None:
    """A training step changes the weights, and therefore the outputs of the next step."""
    done = attnbench.process("use", "numba/flash", "--verify", "--rounds", "2", "-f", "json", "--", script)
    assert done.code == 0, done.err
    said, _, answer = done.out.partition("\n")
    assert said == "[] True"
    found = json.loads(answer)
    assert [row["output"] for row in found["rows"]] == ["call 1.output", "call 2.output"]
    assert (found["calls"], found["fallbacks"]) == (6, {})


def test_a_mistake_of_an_implementation_is_told_and_is_exit_code_1(attnbench: Command, script: str) -> None:
    kernel = KERNEL.format(factor=1.01).replace("masks=", "modes=['forward', 'forward_backward'], masks=")
    (attnbench.folder / "kernel.py").write_text(kernel)
    done = attnbench.process("use", "mine/kernel", "-p", "kernel.py", "--verify", "--rounds", "1", "--", script)
    assert done.code == 1, done.err
    assert "mine/kernel is wrong in this model" in done.out


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("import torch; torch.ones(2)", "the program calls no module of torch"),
        (
            "import os, torch; torch.nn.Identity()(torch.tensor([*os.urandom(8)]).float())",
            "the program computes other outputs each time that it runs",
        ),
        ("import torch; torch.nn.Linear(2, 2)(torch.ones(2))", "naive/torch computed 0 of 0 attention calls"),
    ],
)
def test_what_cannot_be_compared_is_told(attnbench: Command, line: str, why: str) -> None:
    done = attnbench.process("use", "naive/torch", "--verify", "--", "-c", line)
    assert (done.code, done.out) == (2, "")
    assert why in done.err
