"""``check`` without a scenario: the drawn cases, what they cover, and how to repeat them."""

from __future__ import annotations

import json
import re

from tests.conftest import Command, records_of

KERNEL = '''
import torch
from attnbench import attention

@attention("mine/kernel", operators=["attention"])
def kernel(q, k, v, case):
    """Right, but for float32 with more than 1,024 keys of 128 dims."""
    out = torch.softmax(q @ k.transpose(-1, -2) * case.scale, -1) @ v
    return out * 1.1 if case.seqlen_kv > 1024 and case.head_dim == 128 else out

@kernel.supports
def refusal(case, device):
    return "heads must be even" if case.heads_q % 2 else None
'''


def test_what_is_wrong_for_a_pair_is_found_and_the_coverage_told(module_attnbench: Command) -> None:
    (module_attnbench.folder / "kernel.py").write_text(KERNEL)
    finished = module_attnbench(
        "check", "-p", "kernel.py", "-i", "^mine/", "--seed", "8123", "-v", "--out", "run.jsonl"
    )
    records = records_of(module_attnbench.folder / "run.jsonl")
    wrong = [one for one in records if one["status"] == "wrong"]
    assert finished.code == 1
    assert wrong
    assert all(one["seqlen_kv"] > 1024 and one["head_dim"] == 128 for one in wrong)
    assert all(one["heads_q"] % 2 == 0 for one in records)  # cases that its hook refuses are not planned
    assert {one["status"] for one in records} == {"ok", "wrong"}
    (line,) = (line for line in finished.err.splitlines() if "of triples" in line)
    told = re.fullmatch(
        r"mine/kernel: ([\d,]+) of ([\d,]+) pairs, \d+ % of triples, (\d+) random cases \(seed 8123\); "
        r"[\d,]+ more pairs are impossible: contradictory, not declared, refused or too large",
        line,
    )
    assert told
    assert told[1] == told[2]
    assert told[3] == "30"
    assert {one["seed"] for one in records} == {8123}


def test_a_resumed_check_tells_the_coverage_of_the_whole(module_attnbench: Command) -> None:
    path = module_attnbench.folder / "run.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    (module_attnbench.folder / "half.jsonl").write_text("".join(lines[:40]))
    resumed = module_attnbench("run", "--resume", "half.jsonl")
    assert "(seed 8123)" in resumed.err
    assert {one["case_id"] for one in records_of(module_attnbench.folder / "half.jsonl")} == {
        one["case_id"] for one in records_of(path)
    }


def planned(attnbench: Command) -> str:
    finished = attnbench("check", "-p", "kernel.py", "-i", "^mine/", "--dry-run")
    assert finished.code == 0, finished.err
    return finished.out


def test_without_a_seed_cases_are_others_each_time(module_attnbench: Command) -> None:
    assert planned(module_attnbench) != planned(module_attnbench)


def test_the_command_of_a_run_names_the_seed(module_attnbench: Command) -> None:
    """Tried with an implementation that has a single record, because it is unavailable."""
    without = KERNEL.replace('"mine/kernel",', '"other/kernel", requires=["nothere"],')
    (module_attnbench.folder / "other.py").write_text(without)
    module_attnbench("check", "-p", "other.py", "-i", "^other/", "--out", "other.jsonl")
    (record,) = records_of(module_attnbench.folder / "other.jsonl")
    assert record["status"] == "unavailable"
    header = json.loads((module_attnbench.folder / "other.jsonl").read_text().partition("\n")[0])
    assert header["command"][-4] == "--seed"
    assert int(header["command"][-3]) == header["seed"]


def test_thorough_is_for_cases_that_attnbench_chooses(attnbench: Command) -> None:
    finished = attnbench("check", "quick", "--thorough")
    assert finished.code == 2
    assert "--thorough is about cases that attnbench chooses" in finished.err
