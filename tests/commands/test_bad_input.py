"""Bad input: one clear message, exit code 2, and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import PLUGINS, Command
from tests.odd_files import ODD, make_odd


def refused(attnbench: Command, *arguments: str | Path) -> str:
    """Run a command that must be refused, and return its message."""
    before = sorted(attnbench.folder.rglob("*"))
    finished = attnbench(*arguments)
    assert finished.code == 2, finished.err
    assert finished.out == ""
    assert sorted(attnbench.folder.rglob("*")) == before, "nothing is written"
    assert "Traceback" not in finished.err
    return finished.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quik"], "did you mean 'quick'?"),
        (["run", "quick", "-a", "seqln=128"], "did you mean 'seqlen'?"),
        (["run", "quick", "-a", "dtype=bfloat61"], "did you mean 'bfloat16'?"),
        (["run", "-a", "seqlen"], "NAME=VALUE"),
        (["run", "-a", "heads_q=8", "-a", "heads_kv=3"], "heads_q = 8 is not a multiple of heads_kv = 3"),
        (
            ["run", "-a", "batch=2q2k_x"],
            "batch: '2q2k_x' has 'x' where requests are COUNTqQUERIESsKEYS, such as 32q1s1k",
        ),
        (["run", "-a", "batch=many"], "nor requests such as 2q2k_32q1s1k"),
        (
            ["run", "-a", "batch=q4", "-a", "mask=causal"],
            "requests has no effect on any case: it needs mask = 'ragged'",
        ),
        (["run", "-a", "batch=q4", "-a", "seqlen=8"], "have 4 queries and 4 keys, not seqlen_q = 8 and seqlen_kv = 8"),
        (["run", "-a", "seqlen=-1"], "seqlen: '-1' is not an integer >= 0"),
        (["run", "-i", "no/such"], "no implementation matches 'no/such' (there are "),
        (
            ["run", "-i", "numba/flsh"],
            "no implementation matches 'numba/flsh'; did you mean 'numba/flash'? (there are ",
        ),
        (["run", "-a", "kv_heads=2"], "kv_heads: unknown field; did you mean 'heads_kv'? (there are operator, "),
        (["run", "-i", "("], "is not a regular expression"),
        (["run", "-x", "."], "no implementation is left"),
        (["run", "--device", "tpu"], "unknown device 'tpu'"),
        (["run", "--threads", "0"], "threads must be at least 1"),
        (["run", "-p", "missing.py"], "missing.py cannot be read: No such file or directory"),
        (["run", "missing.toml"], "missing.toml"),
        (["run", "--resume", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["run", "quick", "--resume", "missing.jsonl"], "leave the scenario and options out"),
        (["run", "--cache", "cold", "--resume", "missing.jsonl"], "leave the scenario and options out"),
        (["run", "--peaks", "none", "--resume", "missing.jsonl"], "leave the scenario and options out"),
        (["run", "--force", "--resume", "missing.jsonl"], "leave the scenario and options out"),
        (["run", "--dry-run", "--resume", "missing.jsonl"], "--watch and --dry-run are about new ones"),
        (
            ["inspect", "-a", "seqlen=1", "-a", "heads=1", "-a", "head_dim=1000000000"],
            "a tensor has at most 16,777,216",
        ),
        (["show", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["report", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["compare", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["run", "--no-such-option"], "--no-such-option"),
    ],
)
def test_mistakes_on_the_command_line(attnbench: Command, arguments: list[str], message: str) -> None:
    assert message in refused(attnbench, *arguments)


def test_a_mistake_ends_the_process_with_its_code(attnbench: Command) -> None:
    finished = attnbench.process("run", "quik")
    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith("attnbench: scenario 'quik'")


def test_all_mistakes_of_a_scenario_are_told_at_once(attnbench: Command) -> None:
    (attnbench.folder / "bad.toml").write_text(
        'descripton = "x"\n[axes]\ndtype = ["float32", "bfloat61"]\nseqln = [128]\n[limits]\ntime = 3\n'
    )
    said = refused(attnbench, "run", "bad.toml")
    for words in ("descripton", "'bfloat61'", "did you mean 'seqlen'?", "did you mean 'time_s'?"):
        assert words in said


def test_malformed_toml_names_line_and_column(attnbench: Command) -> None:
    (attnbench.folder / "torn.toml").write_text("[axes]\nseqlen = [128 256]\n")
    assert "torn.toml: it is not TOML: Unclosed array (at line 2, column 15)" in refused(attnbench, "run", "torn.toml")


def test_a_name_registered_twice_names_both_sources(attnbench: Command) -> None:
    for name in ("mine.py", "other.py"):
        (attnbench.folder / name).write_text(
            "from attnbench import attention\n@attention('mine/twice')\ndef f(q, k, v, case): return q\n"
        )
    said = refused(attnbench, "run", "-p", "mine.py", "-p", "other.py")
    assert "'mine/twice' is registered twice" in said
    assert "mine.py" in said
    assert "other.py" in said


def test_a_plugin_that_is_not_python(attnbench: Command) -> None:
    (attnbench.folder / "broken.py").write_text("def (:\n")
    assert "is not Python" in refused(attnbench, "run", "-p", "broken.py")


def test_a_plugin_without_implementations(attnbench: Command) -> None:
    (attnbench.folder / "empty.py").write_text("x = 1\n")
    assert "defines no implementation" in refused(attnbench, "run", "-p", "empty.py")


@pytest.mark.parametrize("selection", [["-i", "mine"], ["-i", "naive"], ["-i", "brok"], []])
def test_a_plugin_that_cannot_be_imported(attnbench: Command, selection: list[str]) -> None:
    (attnbench.folder / "broken.py").write_text("import no_such_library\n")
    said = refused(attnbench, "run", "-p", "broken.py", "-p", PLUGINS / "mine.py", *selection)
    assert "broken.py: importing it raised ModuleNotFoundError: No module named 'no_such_library'" in said


def test_a_named_implementation_of_a_plugin_that_cannot_be_imported(attnbench: Command) -> None:
    (attnbench.folder / "broken.py").write_text("import no_such_library\n")
    said = refused(attnbench, "run", "-p", "broken.py:mine/other", "-p", PLUGINS / "mine.py", "-i", "mine")
    assert "No module named 'no_such_library'" in said


def test_a_declaration_with_an_unknown_dtype(attnbench: Command) -> None:
    (attnbench.folder / "odd.py").write_text(
        "from attnbench import attention\n@attention('my/odd', dtypes=['float23'])\ndef f(q, k, v, case): return q\n"
    )
    assert "'float23' is none of" in refused(attnbench, "run", "-p", "odd.py")


def test_a_run_file_of_a_newer_schema(attnbench: Command) -> None:
    (attnbench.folder / "new.jsonl").write_text(json.dumps({"kind": "header", "schema_version": 99}) + "\n")
    assert "newer attnbench" in refused(attnbench, "show", "new.jsonl")


@pytest.mark.parametrize("kind", ODD)
def test_a_run_file_that_is_none_is_not_waited_for(attnbench: Command, kind: str) -> None:
    path = attnbench.folder / "run.jsonl"
    make_odd(kind, path)
    done = attnbench("show", path)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("run.jsonl cannot be read: it is not a regular file\n")


def test_a_current_folder_that_is_gone(attnbench: Command) -> None:
    gone = attnbench.folder / "gone"
    gone.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from attnbench.cli.main import main; main(['list', 'devices'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "attnbench: the current folder was removed: change to another one\n")


def test_an_existing_run_file_is_not_overwritten(attnbench: Command) -> None:
    (attnbench.folder / "kept.jsonl").write_text("kept\n")
    assert "--force" in refused(attnbench, "run", "-i", "^naive/numpy$", "--out", "kept.jsonl")
    assert (attnbench.folder / "kept.jsonl").read_text() == "kept\n"


def test_a_malformed_configuration(attnbench: Command) -> None:
    (attnbench.folder / "pyproject.toml").write_text("[tool.attnbench]\nthread = 2\n")
    assert "thread: unknown key; did you mean 'threads'? (there are plugins, " in refused(attnbench, "run", "quick")


def test_a_configuration_with_a_byte_order_mark(attnbench: Command) -> None:
    (attnbench.folder / "pyproject.toml").write_bytes(b"\xef\xbb\xbf[tool.attnbench]\r\nthreads = 0\r\n")
    assert "threads must be at least 1" in refused(attnbench, "run", "quick")


def test_a_file_without_the_tensors_of_a_case(attnbench: Command) -> None:
    np.savez(attnbench.folder / "odd.npz", q=np.zeros((1, 8, 16, 64), complex))
    said = refused(attnbench, "run", "-i", "^naive/numpy$", "-a", "inputs=file:odd.npz", "-a", "seqlen=16")
    assert "q is of the dtype 'complex128'" in said
    assert "there is no v, only 'q'" in said
    assert "q is of the dtype 'complex128'" in refused(attnbench, "inspect", "odd.npz")
