"""Implementations are found in all places, and unusable ones have a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnbench.registry.discover import bundled, find, from_file, unmet
from attnbench.registry.found import Origin, RegistryError
from attnbench.registry.implementation import DeclarationError, attention
from tests.conftest import PLUGINS, Command, records_of

KERNEL = """
import heavy_library_of_theirs
from attnbench import attention

@attention("theirs/kernel", framework="numpy")
def kernel(q, k, v, case):
    import numpy as np
    s = q @ k.swapaxes(-1, -2) * q.dtype.type(case.scale)
    w = np.exp(s - s.max(-1, keepdims=True))
    return w / w.sum(-1, keepdims=True) @ v

@attention("theirs/other", framework="numpy")
def other(q, k, v, case):
    return q
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder that looks like site-packages with a third party's plug-in."""
    folder = tmp_path / "site"
    (folder / "theirs-1.2.dist-info").mkdir(parents=True)
    (folder / "theirs.py").write_text(KERNEL)
    (folder / "heavy_library_of_theirs.py").write_text("import sys; sys.stderr.write('heavy library imported\\n')\n")
    (folder / "theirs-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    (folder / "theirs-1.2.dist-info" / "top_level.txt").write_text("theirs\n")
    (folder / "theirs-1.2.dist-info" / "entry_points.txt").write_text(
        "[attnbench.implementations]\ntheirs/kernel = theirs:kernel\n"
    )
    return folder


def test_an_installed_package_is_listed_without_being_imported(attnbench: Command, installed: Path) -> None:
    finished = attnbench.process("list", "implementations", PYTHONPATH=str(installed))
    (line,) = [line for line in finished.out.splitlines() if line.startswith("theirs/kernel")]
    assert "entry point theirs:kernel, not loaded for a listing" in line
    assert "heavy library imported" not in finished.err


def test_an_installed_package_runs_with_its_version_recorded(attnbench: Command, installed: Path) -> None:
    finished = attnbench.process(
        "check", "-i", "^theirs", "-a", "seqlen=16", "--out", "run.jsonl", PYTHONPATH=str(installed)
    )
    assert finished.code == 0, finished.err
    (record,) = records_of(attnbench.folder / "run.jsonl")
    assert (record["implementation"], record["status"]) == ("theirs/kernel", "ok")
    assert record["implementation_version"] == "1.2"


def test_an_installed_package_that_is_broken_breaks_nothing_else(attnbench: Command, installed: Path) -> None:
    (installed / "heavy_library_of_theirs.py").unlink()
    finished = attnbench.process(
        "check", "-i", "^theirs", "-i", "^naive/numpy$", "-a", "seqlen=16", "--out", "run.jsonl",
        PYTHONPATH=str(installed),
    )  # fmt: skip
    statuses = {r["implementation"]: (r["status"], r["reason"]) for r in records_of(attnbench.folder / "run.jsonl")}
    assert statuses["naive/numpy"] == ("ok", None)
    status, reason = statuses["theirs/kernel"]
    assert status == "unavailable"
    assert "No module named 'heavy_library_of_theirs'" in reason
    assert finished.code == 0


def test_a_name_of_a_plugin_must_not_be_taken(tmp_path: Path) -> None:
    (tmp_path / "copy.py").write_text(KERNEL.replace("theirs/kernel", "naive/torch").replace("import heavy", "# heavy"))
    with pytest.raises(RegistryError, match=r"'naive/torch' is registered twice: by module .* and by file .*copy.py"):
        find([str(tmp_path / "copy.py")])


def test_a_plugin_can_import_its_neighbours_and_shadows_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiles.py").write_text("SIZE = 64\n")
    (tmp_path / "statistics.py").write_text("raise RuntimeError('not the library')\n")
    (tmp_path / "kernel.py").write_text("import statistics, tiles\n" + KERNEL.replace("import heavy", "# heavy"))
    assert [one.name for one in from_file(str(tmp_path / "kernel.py"))] == ["theirs/kernel", "theirs/other"]
    assert all(one.unavailable is None for one in from_file(str(tmp_path / "kernel.py")))


IN_A_PACKAGE = KERNEL.replace("import heavy_library_of_theirs", "from ..tiles import SIZE\nfrom {}.tiles import SIZE")


def package(folder: Path, name: str) -> Path:
    """Write a plug-in deep in a package that imports a sibling relatively and absolutely; return its path."""
    kernel = folder / name / "kernels" / "fused.py"
    kernel.parent.mkdir(parents=True)
    for place in (folder / name, kernel.parent):
        (place / "__init__.py").write_text("")
    (folder / name / "tiles.py").write_text("SIZE = 64\n")
    kernel.write_text(IN_A_PACKAGE.format(name))
    return kernel


def test_a_file_in_a_package_is_imported_as_a_part_of_it(tmp_path: Path) -> None:
    kernel = package(tmp_path, "their_package")
    found = from_file(str(kernel))
    assert [(one.name, one.unavailable) for one in found] == [("theirs/kernel", None), ("theirs/other", None)]
    assert str(tmp_path / "their_package/tiles.py") in found[0].files


def test_a_package_whose_name_is_another_ones_is_imported_all_the_same(tmp_path: Path) -> None:
    kernel = package(tmp_path, "email")  # a name of the standard library
    kernel.write_text(
        KERNEL.replace("import heavy_library_of_theirs", "import email.message\nfrom ..tiles import SIZE")
    )
    assert [one.unavailable for one in from_file(str(kernel))] == [None, None]


def test_one_of_several_by_name() -> None:
    (one,) = from_file(f"{PLUGINS / 'faults.py'}:faults/hang")
    assert one.name == "faults/hang"
    with pytest.raises(RegistryError, match="does not define 'faults/none'; it defines faults/segfault"):
        from_file(f"{PLUGINS / 'faults.py'}:faults/none")


@pytest.mark.parametrize("named", ["", ":mine/three-lines", "::mine/three-lines"])
def test_the_path_of_a_plugin_may_hold_colons(tmp_path: Path, named: str) -> None:
    path = tmp_path / "my: kernel.py"
    path.write_bytes((PLUGINS / "mine.py").read_bytes())
    assert [one.name for one in from_file(f"{path}{named}")] == ["mine/three-lines"]


def test_origins_read_as_sentences() -> None:
    assert str(Origin("file", "/a/b.py")) == "file /a/b.py"


def test_the_hash_of_a_package_is_that_of_all_its_files(tmp_path: Path) -> None:
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text(KERNEL.replace("import heavy", "# heavy"))
    (package / "tiles.py").write_text("SIZE = 64\n")
    (before, *_) = from_file(str(package / "__init__.py"))
    (package / "tiles.py").write_text("SIZE = 128\n")
    (after, *_) = from_file(str(package / "__init__.py"))
    assert before.source_hash != after.source_hash


def test_the_hash_of_a_plugin_is_that_of_all_it_reads_while_it_is_imported(tmp_path: Path) -> None:
    kernel, tiles, table = (tmp_path / name for name in ("kernel.py", "tiles.py", "table.json"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "unrelated.py").write_text("")
    alone = KERNEL.replace("import heavy", "# heavy")
    kernel.write_text(alone)
    hashes = [hash_of(kernel)]
    kernel.write_text(
        "from pathlib import Path\nimport json, numpy, tiles\njson.load(open(Path(__file__).with_name('table.json')))\n"
        + alone
    )
    tiles.write_text("SIZE = 64\n")
    table.write_text("[1]")
    hashes.append(hash_of(kernel))
    assert from_file(str(kernel))[0].files == (str(kernel), str(table), str(tiles))
    tiles.write_text("SIZE = 32\n")
    hashes.append(hash_of(kernel))
    table.write_text("[2]")
    hashes.append(hash_of(kernel))
    assert len(set(hashes)) == 4
    (elsewhere / "unrelated.py").write_text("1")
    assert hash_of(kernel) == hashes[-1]


LATER = """
def tune():
    from . import nothing_here
    import tiles.wide
    return load("kernel.cpp"), load("log.txt"), load("a" + ".json"), "/no\\0path.json"
"""


def test_what_a_plugin_reads_later_is_part_of_it_where_its_source_names_it(tmp_path: Path) -> None:
    """Its source names the file in an import within a function, or in a string."""
    kernel, source, log = (tmp_path / name for name in ("kernel.py", "kernel.cpp", "log.txt"))
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    parts = [tiles / name for name in ("__init__.py", "sizes.py", "wide.py")]
    kernel.write_text(KERNEL.replace("import heavy", "# heavy") + LATER)
    for path, text in zip(
        [*parts, source, log], ["", "SIZE = 1", "from .sizes import SIZE", "int f;", ""], strict=True
    ):
        path.write_text(text)
    assert from_file(str(kernel))[0].files == tuple(sorted(map(str, (kernel, source, *parts))))
    before = hash_of(kernel)
    parts[1].write_text("SIZE = 2")
    assert hash_of(kernel) != before


def hash_of(plugin: Path) -> str | None:
    return from_file(str(plugin))[0].source_hash


def test_requirements_are_asked_of_the_distributions() -> None:
    assert unmet(["numpy>=1"]) is None
    assert unmet(["numpy>=999"]) is not None
    assert unmet(["no-such-thing>=1"]) == "no-such-thing is not installed (it needs no-such-thing>=1)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Mine"}, "the name must be family/variant in lower case, not 'Mine'"),
        ({"name": "my/kernel", "masks": ["casual"]}, "masks: 'casual' is none of none, causal"),
        ({"name": "my/kernel", "layout": "bhds"}, "layout: 'bhds' is none of bhsd, bshd, packed"),
        ({"name": f"my/{'k' * 100}"}, "the name is longer than 100 characters"),
        ({"name": "my/kernel", "interpreter": Path("/usr/bin/python")}, "interpreter: .* is not a path in quotes"),
        ({"name": "my/kernel", "device": "gpu"}, "device: 'gpu' is none of cpu, cuda"),
    ],
)
def test_a_misspelt_declaration_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        attention(**arguments)(lambda q, k, v, case: q)  # type: ignore[arg-type]  # that is what is tested


def test_a_function_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(DeclarationError, match="must take"):
        attention("my/kernel")(lambda q, k, v: q)


def test_functions_of_the_wrong_shape_are_refused_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "three.py").write_text(
        "from attnbench import attention\n@attention('my/short')\ndef f(q, k, v): return q\n"
        "@attention('my/right')\ndef g(q, k, v, case): return q\n"
    )
    short, right = sorted(from_file(str(tmp_path / "three.py")), key=lambda one: one.name == "my/right")
    assert short.unavailable is not None
    assert short.unavailable.endswith("not 3 parameters")
    assert right.unavailable is None


def test_a_file_of_which_nothing_can_be_called_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("from attnbench import attention\n@attention('my/k')\ndef f(q, k, v): return q\n")
    with pytest.raises(RegistryError, match=r"one\.py: my/k: the function must take .* not 3 parameters"):
        from_file(str(tmp_path / "one.py"))


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ("return True", "returned True, which is neither a string nor None"),
        ("raise OSError('no driver')", "raised OSError: no"),
    ],
)
def test_a_hook_that_cannot_say_whether_it_is_available_makes_it_unavailable(
    tmp_path: Path, hook: str, words: str
) -> None:
    (tmp_path / "odd.py").write_text(
        "from attnbench import attention\n@attention('my/k')\ndef f(q, k, v, case): return q\n"
        f"@f.available\ndef _():\n    {hook}\n"
    )
    (one,) = from_file(str(tmp_path / "odd.py"))
    assert one.unavailable is not None
    assert f"its hook 'available' {words}" in one.unavailable


def test_a_long_list_of_declarations_is_read_while_it_is_written(tmp_path: Path) -> None:
    # More than a pipe holds: waiting for the process before reading would never end.
    (tmp_path / "many.py").write_text(
        "from attnbench import attention\n"
        "kernels = [attention(f'many/k{i}')(lambda q, k, v, case: q) for i in range(300)]\n"
        "globals().update({f'k{i}': kernel for i, kernel in enumerate(kernels)})\n"
    )
    assert len(from_file(str(tmp_path / "many.py"))) == 300


def test_what_a_plugin_leaves_running_delays_nothing(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(
        "import os, threading, time\nfrom attnbench import attention\n"
        "threading.Thread(target=time.sleep, args=(3000,)).start()\n"
        "if os.fork() == 0:\n    time.sleep(3000)\n"
        "@attention('my/busy')\ndef f(q, k, v, case): return q\n"
    )
    assert [one.unavailable for one in from_file(str(tmp_path / "busy.py"))] == [None]


def test_what_a_plugin_writes_into_the_pipe_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "liar.py").write_text("import os, sys\nos.write(int(sys.argv[1]), b'nonsense\\n')\n")
    (one,) = from_file(str(tmp_path / "liar.py"))
    assert one.unavailable == "it wrote into the protocol's pipe"


def test_a_decorated_function_can_still_be_called() -> None:
    @attention("my/kernel")
    def kernel(q: int, k: int, v: int, case: None) -> int:
        return q + k + v

    assert kernel(1, 2, 3, None) == 6


def test_declarations_survive_json() -> None:
    for one in bundled():
        assert one.declaration is not None
        assert json.loads(json.dumps(one.declaration.__dict__))["name"] == one.name
