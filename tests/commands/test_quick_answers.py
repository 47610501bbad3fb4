"""Commands that only look things up load no heavy library."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import jsonschema
import pytest
from cyclopts import App

from attnbench.cli.main import app
from tests.conftest import REPOSITORY, Command

HEAVY = {"torch", "numba", "pandas", "scipy", "xformers", "triton", "altair", "jax", "pydantic"}
READS_NO_DATA = ("--help", "gate --help", "list implementations", "list scenarios", "run --help")


LOOKING = (*READS_NO_DATA, "run quick --dry-run", "schema record")


PROGRAM = f"""
import contextlib, io, json, sys
from attnbench.cli.main import exit_code
ended = {{}}
for words in {LOOKING!r}:
    with contextlib.redirect_stdout(io.StringIO()):
        try: code = exit_code(words.split())
        except SystemExit as end: code = end.code
    ended[words] = [code, sorted({{name.partition('.')[0] for name in sys.modules}} & {HEAVY!r})]
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def ended() -> dict[str, list[object]]:
    """Run all commands in one process; return each exit code and the heavy libraries loaded after it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("words", LOOKING)
def test_no_heavy_library_is_imported(words: str, ended: dict[str, list[object]]) -> None:
    assert ended[words] in ([0, []], [0, [] if words in READS_NO_DATA else ["pydantic"]])


def test_the_list_of_verbs_says_what_each_does(attnbench: Command) -> None:
    for arguments in ([], ["--help"]):
        said = " ".join(attnbench(*arguments).out.replace("\u2502", " ").split())
        for verb, sentence in (
            ("run", "Sweep implementations over a scenario"),
            ("gate", "Judge a change"),
            ("list", "List implementations, scenarios or devices"),
        ):
            assert f"{verb} {sentence}" in said


def commands(within: App = app) -> Iterator[App]:
    """Yield each command, including those of groups."""
    for name in within:
        if name.startswith("-"):
            continue
        command = within[name]
        if command.default_command is None:
            yield from commands(command)
        else:
            yield command


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command.name[0])
def test_help_shows_examples_that_can_be_typed(attnbench: Command, command: App) -> None:
    function = command.default_command
    assert function is not None
    block = re.search(r"```\n(.*?)```", inspect.getdoc(function) or "", re.DOTALL)
    assert block, "no example in its docstring"
    for line in block[1].splitlines():
        said, *words = shlex.split(line, comments=True)
        parsed, _, _ = app.parse_args(words, print_error=False, exit_on_error=False)
        assert (said, parsed) == ("attnbench", function)
        assert line in attnbench(*words[: 2 if words[0] in ("list", "baseline", "history") else 1], "--help").out


def test_listing_tells_why_something_is_unavailable(attnbench: Command) -> None:
    lines = {line.split()[0]: line for line in attnbench("list", "implementations").out.splitlines()}
    assert "The three steps of attention" in lines["naive/numpy"]
    cudnn = lines["torch/sdpa-cudnn"]
    assert "unavailable: no CUDA device" in cudnn or "cuDNN" in cudnn


def test_listing_as_json_holds_the_declarations(attnbench: Command) -> None:
    found = {one["name"]: one for one in json.loads(attnbench("list", "implementations", "--json").out)}
    assert found["naive/numpy"]["declaration"]["framework"] == "numpy"
    assert len(found["naive/numpy"]["source_hash"]) == 12


def test_every_bundled_scenario_is_listed_with_a_sentence(attnbench: Command) -> None:
    listed = json.loads(attnbench("list", "scenarios", "--json").out)
    assert set(listed) == {path.stem for path in (REPOSITORY / "scenarios").glob("*.toml")}
    assert all(description.endswith(".") for description in listed.values())


@pytest.mark.parametrize("what", ["scenario", "record", "header", "gate", "calibration"])
def test_schemas_are_valid_json_schemas(attnbench: Command, what: str) -> None:
    schema = json.loads(attnbench("schema", what).out)
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_every_verb_and_option(attnbench: Command, shell: str) -> None:
    script = attnbench("completion", shell).out
    assert all(word in script for word in ("inspect", "completion", "stop-at-first", "watch"))
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_run_and_a_check_print_json(attnbench: Command) -> None:
    axes = ("-i", "^naive/numpy$", "-a", "seqlen=16", "-a", "heads=1", "--json")
    checked, ran = attnbench("check", *axes), attnbench("run", *axes, "--peaks", "none")
    assert (checked.code, ran.code) == (0, 0), ran.err
    for finished, timed in ((checked, False), (ran, True)):
        told = json.loads(finished.out)
        (row,) = told["rows"]
        assert (told["counts"], row["implementation"], row["status"]) == ({"ok": 1}, "naive/numpy", "ok")
        assert (row["time_median_ns"] is not None) == timed
        assert (attnbench.folder / told["path"]).is_file()


def test_what_a_run_writes_follows_its_own_schemas(attnbench: Command) -> None:
    attnbench("run", "-i", "^naive/numpy$", "-a", "seqlen=16", "-a", "dtype=float32,bfloat16", "--out", "run.jsonl")
    record, header = (json.loads(attnbench("schema", what).out) for what in ("record", "header"))
    for text in (attnbench.folder / "run.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["kind"] == "header":
            jsonschema.validate(line, header)
        if line.pop("kind") == "record":
            jsonschema.validate(line, record)


def test_devices_begin_with_the_cpu(attnbench: Command) -> None:
    assert json.loads(attnbench("list", "devices", "--json").out)[0]["name"] == "cpu"


def test_doctor_tells_what_to_do(attnbench: Command) -> None:
    finished = attnbench("doctor")
    assert finished.code == 0, finished.err
    assert "naive/numpy" in finished.out


def test_version(attnbench: Command) -> None:
    assert attnbench("--version").out.strip().startswith("0.")
