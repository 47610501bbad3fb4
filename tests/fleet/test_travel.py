"""Files that are sent to other machines, and software that must be the same there."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnbench.errors import UsageError
from attnbench.fleet.luggage import MOST_BYTES, packed
from attnbench.fleet.ray_engine import RayEngine
from attnbench.fleet.software import Software, differences
from attnbench.registry.discover import find

MINE = """
from attnbench import attention
from lib.helper import one


@attention("mine/a", device="cpu", framework="numpy")
def mine(q, k, v, case):
    return one(q)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    folder = tmp_path / "kernels"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "helper.py").write_text("def one(q):\n    return q\n")
    (folder / "mine.py").write_text(MINE)
    (folder / "weights.npy").write_bytes(b"weights")
    (folder / "notes.log").write_text("no part of a kernel")
    (folder / ".env.json").write_text("a secret")
    (folder / "huge.bin").write_bytes(b"0" * (MOST_BYTES + 1))
    return folder / "mine.py"


def test_a_plugin_travels_with_what_it_imports_and_what_lies_beside_it(plugin: Path, tmp_path: Path) -> None:
    found = find([str(plugin)], load_entry_points=False)
    luggage = packed([f"{plugin}:mine/a"], found)
    assert sorted(luggage.files) == ["lib/helper.py", "mine.py", "weights.npy"]
    assert luggage.plugins == ("mine.py:mine/a",)
    (there,) = luggage.put_down(tmp_path / "there")
    (again,) = [one for one in find([there], load_entry_points=False) if one.name == "mine/a"]
    (here,) = [one for one in found if one.name == "mine/a"]
    assert again.source_hash == here.source_hash


def test_what_was_put_down_is_removed_with_the_process_even_if_that_is_killed() -> None:
    holder = (
        "import os, signal; from attnbench.fleet.luggage import Luggage, folder_of_this_process\n"
        "with folder_of_this_process() as folder:\n"
        "    Luggage({'deep/mine.py': b'secret'}, ('deep/mine.py',)).put_down(folder)\n"
        "    print(folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    folder, until = Path(ended.stdout.strip()), time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_without_plugins_nothing_travels(tmp_path: Path) -> None:
    luggage = packed([], find(load_entry_points=False))
    assert (luggage.files, luggage.put_down(tmp_path)) == ({}, ())


def test_what_differs_between_machines_is_told_with_who_has_what() -> None:
    machines = {
        "here": Software({"the code of a/a": "11"}),
        "node1": Software({"the code of a/a": "11", "numpy": "2.0", "torch": "2.13"}),
        "node2": Software({"the code of a/a": "12", "numpy": "2.1", "torch": "2.13"}),
    }
    assert differences(machines) == [
        "the code of a/a is 11 on here and node1, 12 on node2",
        "numpy is 2.0 on node1, 2.1 on node2",
    ]
    assert differences(dict.fromkeys(("x", "y"), machines["node1"])) == []


def test_without_the_extra_one_sentence_tells_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'attnbench\[ray\]'"):
        RayEngine("ray")


@pytest.mark.parametrize("address", ["slurm", "ray://", "ray://host", "http://host:10001", "ray://host:1/x"])
def test_what_is_no_engine_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--on takes ray, or ray://HOST:PORT"):
        RayEngine(address)
