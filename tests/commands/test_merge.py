"""``attnbench run --shard`` and ``attnbench merge``: machines that share a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnbench import load, merge
from tests.conftest import Command

SCENARIO = 'stages = ["agreement"]\n[axes]\nseqlen = [16, 24, 32]\ndtype = ["float32", "float64"]\n'
RUN = ("run", "six.toml", "-i", "naive/numpy", "-i", "naive/torch", "--peaks", "none")


@pytest.fixture(scope="module")
def folder(module_attnbench: Command) -> Path:
    """Run two shards of a scenario, and the whole scenario."""
    here = module_attnbench.folder
    (here / "six.toml").write_text(SCENARIO)
    for index in (1, 2):
        assert module_attnbench(*RUN, "--shard", f"{index}/2", "--out", f"part{index}.jsonl").code == 0
    assert module_attnbench(*RUN, "--out", "whole.jsonl").code == 0
    return here


def header_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text().splitlines()[0])
    return found


def changed(folder: Path, name: str, **fields: object) -> Path:
    """Write the second shard with another header."""
    _, *rest = (folder / "part2.jsonl").read_text().splitlines(keepends=True)
    header = {**header_of(folder / "part2.jsonl"), **fields}
    (folder / name).write_text("".join([json.dumps(header) + "\n", *rest]))
    return folder / name


def of_another_kind(header: dict[str, Any]) -> dict[str, Any]:
    """Return header fields of the same run on another kind of machine, which has more cores."""
    return {
        "machine_key": "v1-bbbb",
        "environment": {**header["environment"], "cpu_model": "Imaginary 9001"},
        "threads": header["threads"] + 1,
    }


def test_a_function_takes_a_shard_from_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "again.jsonl").touch()
    with (folder / "part1.jsonl").open() as part:
        monkeypatch.setattr("sys.stdin", part)
        merged = merge(["-", folder / "part2.jsonl"], out=folder / "again.jsonl")
    assert merged.exit_code == 0
    assert len(load(merged.path)) == len(load(folder / "whole.jsonl"))


def test_the_shards_of_a_run_make_the_whole_of_it(module_attnbench: Command, folder: Path) -> None:
    merged = module_attnbench("merge", "part2.jsonl", "part1.jsonl", "--out", "merged.jsonl")
    assert (merged.code, merged.out) == (0, "merged.jsonl\n"), merged.err
    cell = ["case_id", "implementation"]
    whole, parts = load(folder / "whole.jsonl"), load(folder / "merged.jsonl")
    assert sorted(map(tuple, parts[cell].to_numpy())) == sorted(map(tuple, whole[cell].to_numpy()))
    header = header_of(folder / "merged.jsonl")
    runs = {one["shard"]: one["run_id"] for one in header["parts"]}
    assert list(runs) == ["1/2", "2/2"]
    assert set(parts["run_id"]) == set(runs.values())
    assert parts.groupby("case_id")["run_id"].nunique().max() == 1, "no case is split"
    assert not {"--shard", "--out", "part1.jsonl"} & set(header["command"])


def test_every_view_takes_a_merged_run(module_attnbench: Command, folder: Path) -> None:
    module_attnbench("merge", "part1.jsonl", "part2.jsonl", "--out", "merged.jsonl", "--force")
    assert module_attnbench("show", "merged.jsonl").code == 0
    assert module_attnbench("compare", "whole.jsonl", "merged.jsonl").code in (0, 6)
    reported = module_attnbench("report", "merged.jsonl", "--out", "page")
    assert reported.code == 0, reported.err
    page = (folder / "page" / "index.html").read_text()
    for part in header_of(folder / "merged.jsonl")["parts"]:
        assert part["run_id"] in page
    again = module_attnbench("run", "--resume", "merged.jsonl")
    assert "nothing to resume" in again.err


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (["part1.jsonl"], "of 2 shards these are missing: 2"),
        (["part1.jsonl", "part1.jsonl"], "are both shard 1/2"),
        (["part1.jsonl", "whole.jsonl"], "whole.jsonl is no shard"),
        (["part1.jsonl", "absent.jsonl"], "absent.jsonl cannot be read"),
    ],
)
def test_what_is_not_a_whole_run_is_refused_and_nothing_is_written(
    module_attnbench: Command, folder: Path, parts: list[str], sentence: str
) -> None:
    refused = module_attnbench("merge", *parts, "--out", "none.jsonl")
    assert refused.code == 2
    assert sentence in refused.err
    assert not (folder / "none.jsonl").exists()


def test_shards_of_other_code_and_requests_do_not_belong_together(module_attnbench: Command, folder: Path) -> None:
    header = header_of(folder / "part2.jsonl")
    code = {**header["implementations"]["naive/numpy"], "source_hash": "0" * 12}
    versions = {**header["environment"]["versions"], "numpy": "1.0"}
    others: dict[str, dict[str, Any]] = {
        "it was measured with 7 threads": {"threads": 7},
        "another threads was asked for": {**of_another_kind(header), "request": {**header["request"], "all_cores": 0}},
        "naive/numpy was other code": {"implementations": {**header["implementations"], "naive/numpy": code}},
        "numpy was 1.0 there": {"environment": {**header["environment"], "versions": versions}},
        "another seed was asked for": {"request": {**header["request"], "seed": 7}},
        "they are of different splits": {"request": {**header["request"], "shard": [2, 3]}},
        "there is no shard 3/2": {"request": {**header["request"], "shard": [3, 2]}},
    }
    for sentence, fields in others.items():
        other = changed(folder, "other.jsonl", **fields)
        refused = module_attnbench("merge", "part1.jsonl", other.name, "--out", "none.jsonl")
        assert (refused.code, sentence in refused.err) == (2, True), refused.err


def test_shards_of_several_kinds_of_machines_are_one_run(module_attnbench: Command, folder: Path) -> None:
    other = changed(folder, "kind.jsonl", **of_another_kind(header_of(folder / "part2.jsonl")))
    merged = module_attnbench("merge", "part1.jsonl", other.name, "--out", "kinds.jsonl", "--force")
    assert (merged.code, merged.out) == (0, "kinds.jsonl\n"), merged.err
    own = header_of(folder / "part1.jsonl")["machine_key"]
    assert load(folder / "kinds.jsonl").groupby("machine_key").size().to_dict() == {own: 6, "v1-bbbb": 6}
    shown = module_attnbench("show", "kinds.jsonl")
    assert (shown.code, shown.out.count("On "), "On Imaginary 9001" in shown.out) == (0, 2, True), shown.out
    across = module_attnbench("compare", "kinds.jsonl", "--across", "machines")
    assert across.code == 6, "no case was measured on both"


def test_a_whole_run_of_each_kind_of_machine_is_merged_where_that_is_asked_for(
    module_attnbench: Command, folder: Path
) -> None:
    whole = (folder / "whole.jsonl").read_text().splitlines(keepends=True)
    header = header_of(folder / "whole.jsonl")
    other = json.dumps({**header, **of_another_kind(header), "run_id": "other"})
    lines = [line.replace(header["run_id"], "other") for line in whole[1:]]
    (folder / "other-whole.jsonl").write_text("".join([other + "\n", *lines]))
    pair = ("whole.jsonl", "other-whole.jsonl")
    assert "is no shard" in module_attnbench("merge", *pair, "--out", "none.jsonl").err
    merged = module_attnbench("merge", *pair, "--across", "machines", "--out", "both.jsonl")
    assert merged.code == 0, merged.err
    found = load(folder / "both.jsonl")
    assert found.groupby(["case_id", "implementation"])["machine_key"].nunique().tolist() == [2] * 12
    refused = module_attnbench("merge", "whole.jsonl", "part1.jsonl", "--across", "machines", "--out", "none.jsonl")
    assert (refused.code, "these are of one" in refused.err) == (2, True), refused.err
    again = module_attnbench("merge", "both.jsonl", "whole.jsonl", "--out", "none.jsonl")
    assert (again.code, "is of several machines already" in again.err) == (2, True), again.err


def test_a_shard_that_lacks_records_is_told(module_attnbench: Command, folder: Path) -> None:
    lines = (folder / "part2.jsonl").read_text().splitlines(keepends=True)
    (folder / "short.jsonl").write_text("".join(lines[:-2]))
    merged = module_attnbench("merge", "part1.jsonl", "short.jsonl", "--out", "short-merged.jsonl")
    assert merged.code == 5
    assert "short.jsonl is incomplete" in merged.err
    assert len((folder / "short-merged.jsonl").read_text().splitlines()) == 1 + 11 + 1, "header, records, one footer"


def test_a_run_file_that_is_there_stays(module_attnbench: Command, folder: Path) -> None:
    before = (folder / "whole.jsonl").read_bytes()
    refused = module_attnbench("merge", "part1.jsonl", "part2.jsonl", "--out", "whole.jsonl")
    assert (refused.code, "exists already" in refused.err) == (2, True)
    assert (folder / "whole.jsonl").read_bytes() == before


def test_a_part_is_not_replaced_by_the_whole(module_attnbench: Command, folder: Path) -> None:
    (folder / "link.jsonl").symlink_to("part1.jsonl")
    before = (folder / "part1.jsonl").read_bytes()
    for out in ("part1.jsonl", "link.jsonl"):
        refused = module_attnbench("merge", "part1.jsonl", "part2.jsonl", "--out", out, "--force")
        assert (refused.code, "is one of the parts" in refused.err) == (2, True)
    assert (folder / "part1.jsonl").read_bytes() == before


def test_more_shards_than_cases_are_refused(module_attnbench: Command, folder: Path) -> None:
    refused = module_attnbench(*RUN, "--shard", "1/7", "--out", "none.jsonl")
    assert (refused.code, "7 shards are more than the 6 cases" in refused.err) == (2, True)
    assert not (folder / "none.jsonl").exists()


def test_records_that_do_not_tell_where_they_were_measured_are_not_merged(
    module_attnbench: Command, folder: Path
) -> None:
    part1, part2 = (header_of(folder / f"part{index}.jsonl")["run_id"] for index in (1, 2))
    others = {
        f"other.jsonl and part1.jsonl are the same run, '{part1}'": part1,
        f"other.jsonl has records of another run, '{part2}'": "0123456789ab",
    }
    for sentence, run_id in others.items():
        other = changed(folder, "other.jsonl", run_id=run_id, **of_another_kind(header_of(folder / "part2.jsonl")))
        refused = module_attnbench("merge", "part1.jsonl", other.name, "--out", "none.jsonl")
        assert (refused.code, sentence in refused.err) == (2, True), refused.err
        assert not (folder / "none.jsonl").exists()
