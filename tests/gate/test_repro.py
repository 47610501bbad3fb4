"""Each failed verdict has a command that reproduces it: a gate for a comparison, a cell for a wrong output."""

from __future__ import annotations

import dataclasses

import pytest

from attnbench.gate.repro import shown_on_head, with_repeating_command
from tests.gate.conftest import ONE, Imagined, of_one, side

COMMAND = ["attnbench", "gate", "my file.toml", "--base", "a.py", "-i", "^mine/", "-x", "z", "--delta", "5%",
           "--out=here", "--format", "markdown", "--json"]  # fmt: skip


def test_a_slow_down_takes_the_gate_with_its_implementation_alone(imagined: Imagined) -> None:
    slower = of_one(imagined(slower=0.10)).model_copy(update={"implementation": "mine/a-b.c"})
    again = with_repeating_command(slower, COMMAND, selects=True).repro
    assert again == "attnbench gate 'my file.toml' --base a.py --delta 5% -i '^mine/a-b\\.c$'"
    stored = with_repeating_command(slower, COMMAND, selects=False).repro
    assert stored == "attnbench gate 'my file.toml' --base a.py -i '^mine/' -x z --delta 5%"


@pytest.mark.parametrize("head", [{"status": "wrong", "reason": "off"}, {"status": "crashed", "reason": "SIGSEGV"}])
def test_what_is_broken_shows_itself_in_a_run_of_its_cell(imagined: Imagined, head: dict[str, str]) -> None:
    repro = of_one(imagined(head=head), "outcome").repro
    assert repro is not None
    assert repro.startswith("attnbench run -i '^a/plain$'")


def test_a_cell_that_has_disappeared_is_asked_of_heads_file(imagined: Imagined) -> None:
    lost = of_one(imagined(keep=lambda name, key: not (name == "head" and key == ONE)), "outcome")
    lost = lost.model_copy(update={"repro": "attnbench run -i '^a/plain$' --plugin '/my files/base.py'"})
    base, head = (dataclasses.replace(side(name), plugins=(f"/my files/{name}.py",)) for name in ("base", "head"))
    assert shown_on_head(lost, base, head).repro == "attnbench run -i '^a/plain$' --plugin '/my files/head.py'"


def test_what_passes_keeps_the_command_of_its_cell(imagined: Imagined) -> None:
    assert (of_one(imagined()).repro or "").startswith("attnbench run ")
