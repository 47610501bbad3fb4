"""Functions and commands have the same parameters and defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attnbench import Implementation, UsageError, api, attention
from attnbench.api import history
from attnbench.api.selection import CellOptions, CellSelection, axis_texts, plugin_texts
from attnbench.cli.main import app
from attnbench.cli.options import Cells, Selection
from tests.conftest import Command

COMMANDS = (
    "run", "check", "show", "compare", "report", "merge", "inspect", "profile", "gate", "calibrate",
    "capture", "replay", "predict",
)  # fmt: skip
ONLY_IN_PYTHON = {"progress"}
# Replay: its answer draws the chart in Python.
ONLY_ON_THE_LINE = {"form", "as_json", "dry_run", "sensitivity", "request", "program", "watch", "chart"}


def defaults(function: Callable[..., object], without: set[str]) -> dict[str, object]:
    """Return the parameters of a function with their defaults; a selection's are listed one by one."""
    words: dict[str, object] = {}
    for one in inspect.signature(function).parameters.values():
        if one.kind is one.VAR_KEYWORD:
            words |= dict.fromkeys(CellOptions.__annotations__)
        elif isinstance(one.default, Selection):
            words |= vars(one.default)
        else:
            words[one.name] = one.default
    return {name: default for name, default in words.items() if name not in without}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_and_its_command_take_the_same_words(name: str) -> None:
    command = app[name].default_command
    assert command is not None
    assert defaults(getattr(api, name), ONLY_IN_PYTHON) == defaults(command, ONLY_ON_THE_LINE)


@pytest.mark.parametrize("name", history.__all__)
def test_a_function_of_a_history_and_its_command_take_the_same_words(name: str) -> None:
    command = app["history"][name].default_command
    assert command is not None
    assert defaults(getattr(history, name), ONLY_IN_PYTHON) == defaults(command, ONLY_ON_THE_LINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_word_is_an_option_of_its_name(name: str) -> None:
    """A run file's header contains the equivalent command, composed from the function's parameters."""
    options = {option for argument in app[name].assemble_argument_collection() for option in argument.names}
    positional = {"run", "other", "runs", "tensors", "capture"}
    for word in defaults(getattr(api, name), ONLY_IN_PYTHON | positional):
        assert f"--{word.replace('_', '-')}" in options


@pytest.mark.parametrize("name", ["plan", "sensitivity"])
def test_functions_that_are_options_of_a_command_have_its_defaults(name: str) -> None:
    of_run = defaults(api.run, set())
    for word, default in defaults(getattr(api, name), {"only_agreement", "thorough"}).items():
        assert of_run[word] == default


def test_the_words_of_a_selection_read_back_as_the_same() -> None:
    asked = CellSelection.of(
        "quick", ["numba", "torch"], "math", {"seqlen": [128, "1k"], "dtype": "bfloat16"}, Path("k.py"), "cpu", 2, 0
    )
    _, bound, _ = app.parse_args(["run", *asked.words()], exit_on_error=False)
    cells = Cells(
        include=["numba", "torch"], exclude=["math"], axis=["seqlen=128,1k", "dtype=bfloat16"], plugin=["k.py"],
        device=["cpu"], threads=2,
    )  # fmt: skip
    assert bound.arguments == {"scenario": "quick", "cells": cells, "seed": 0}


def test_axes_are_a_text_several_or_a_mapping() -> None:
    assert axis_texts("seqlen=128,1k") == axis_texts(["seqlen=128,1k"]) == ("seqlen=128,1k",)
    assert axis_texts({"seqlen": (128, 1024), "mask": "causal", "head_dim": 64}) == (
        "seqlen=128,1024", "mask=causal", "head_dim=64",
    )  # fmt: skip


@attention("mine/here")
def here(q: object, k: object, v: object, case: object) -> object:
    """Defined in a file."""
    return q


def test_a_function_of_a_file_is_a_plugin() -> None:
    assert plugin_texts(here) == (f"{__file__}:mine/here",)


class Callee:
    """Called as a function is."""

    def __call__(self, q: object, k: object, v: object, case: object) -> object:
        return q


decorated = attention("mine/decorated")(torch.no_grad()(here.call))  # its code lies in a file of torch's
partial = attention("mine/partial")(functools.partial(here.call))
of_class = attention("mine/callee")(Callee())


@pytest.mark.parametrize("made", [decorated, partial, of_class])
def test_the_file_of_a_plugin_is_where_it_was_declared(made: Implementation) -> None:
    assert plugin_texts(made) == (f"{__file__}:{made.declaration.name}",)


@pytest.mark.parametrize(
    ("made", "summary"), [(decorated, "Defined in a file."), (partial, "Defined in a file."), (of_class, "Called as a")]
)
def test_its_summary_is_that_of_what_was_written(made: Implementation, summary: str) -> None:
    assert made.declaration.summary.startswith(summary)


def test_a_function_of_a_notebook_cell_is_told_what_to_do() -> None:
    names: dict[str, object] = {}
    cell = "from attnbench import attention\n@attention('mine/cell')\ndef f(q, k, v, case): return q\n"
    exec(compile(cell, "/tmp/ipykernel_1/1234.py", "exec"), names)  # noqa: S102 - as a notebook does
    with pytest.raises(UsageError, match=r"mine/cell is defined in no file .* write it to FILE\.py"):
        plugin_texts(names["f"])  # type: ignore[arg-type]


def test_a_function_without_the_decorator_is_refused() -> None:
    with pytest.raises(UsageError, match=r"decorated with @attention"):
        plugin_texts(print)  # type: ignore[arg-type]


def test_a_script_that_measures_when_it_is_imported_does_not_start_itself_again(attnbench: Command) -> None:
    (attnbench.folder / "script.py").write_text(
        "import attnbench\n"
        "@attnbench.attention('mine/f')\n"
        "def f(q, k, v, case): return q\n"
        "attnbench.check(plugin=f, axis='seqlen=16', out='inner.jsonl')\n"
    )
    finished = attnbench("check", "-p", "script.py:mine/f", "-i", "mine/f", "-a", "seqlen=16", "--out", "outer.jsonl")
    assert finished.code == 2
    assert "put the calls below if __name__ == '__main__':" in finished.err
    assert not list(attnbench.folder.glob("*.jsonl"))
