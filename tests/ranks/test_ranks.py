"""Implementations of several ranks, by ``attnbench check`` and ``attnbench run``: real processes, over gloo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, records_of

HERE = Path(__file__).parent
MUTANTS = HERE / "mutants.py"
SMALL = ("-a", "seqlen=64", "-a", "heads=2", "-a", "head_dim=16", "-a", "mask=causal")
MARK = "ATTNBENCH_TEST_OF_RANKS"


def by_name(attnbench: Command, *arguments: str | Path) -> dict[str, dict[str, Any]]:
    """Run a command, and return the single record of each implementation."""
    done = attnbench(*arguments)
    assert done.out, done.err
    return {one["implementation"]: one for one in records_of(attnbench.folder / done.out.strip())}


def timed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record, or skip the test if the machine was too busy to time it."""
    if "; other work may be the cause: " in (record["reason"] or ""):
        pytest.skip(record["reason"])
    return record


def test_they_agree_on_every_mask_that_they_claim(attnbench: Command) -> None:
    done = attnbench("check", HERE / "shapes.toml")
    records = records_of(attnbench.folder / done.out.strip())
    bad = [(one["implementation"], one["repro"], one["reason"]) for one in records if one["status"] != "ok"]
    assert not bad
    assert {one["implementation"] for one in records} == {
        f"{name}/torch@{ranks}" for name in ("ring", "ulysses", "usp") for ranks in (2, 4)
    }
    assert {one["ranks"] for one in records} == {2, 4}


def test_known_wrong_rings_are_wrong(attnbench: Command) -> None:
    wrong = ("dropped-step", "no-lse", "halves-swapped", "gradient-kept")
    named = [text for name in wrong for text in ("-i", f"^mutant/{name}$")]
    records = by_name(attnbench, "check", "-p", MUTANTS, *named, "--ranks", "2", *SMALL, "-a", "mode=forward_backward")
    assert {name: one["status"] for name, one in records.items()} == {f"mutant/{name}@2": "wrong" for name in wrong}
    kept = records["mutant/gradient-kept@2"]
    assert kept["out_error_ratio"] <= 1 < kept["dk_error_ratio"]


def test_bytes_are_counted_and_follow_from_the_formula(attnbench: Command) -> None:
    names = ("-i", "^ring/torch$", "-i", "^mutant/miscounted$")
    records = by_name(
        attnbench, "run", "-p", MUTANTS, *names, "--ranks", "2", *SMALL, "--peaks", "none", "--out", "run.jsonl"
    )
    ring = timed(records["ring/torch@2"])
    assert ring["status"] == "ok", ring["reason"]
    assert ring["ranks_sent_bytes"] == 2 * 2 * 64 * 16 * 4  # keys and values of 2 heads, each token once
    assert ring["ranks_compute_ns"] > 0 < ring["ranks_communication_ns"]
    assert 0 <= ring["ranks_overlap"] <= 1
    assert ring["ranks_imbalance"] >= 0 <= ring["ranks_exposed"] < 1
    assert attnbench("report", "run.jsonl", "--out", "page").code == 0
    _, _, section = (attnbench.folder / "page/report.md").read_text().partition("\n## Ranks\n")
    assert "| ring/torch@2 | " in section.partition("\n## ")[0]
    assert ring["repro"].startswith("attnbench run -i '^ring/torch$' --ranks 2 -a ")
    miscounted = timed(records["mutant/miscounted@2"])
    assert (miscounted["status"], miscounted["stage"]) == ("invalid", "ranks")
    assert miscounted["reason"] == "its ranks sent 16,384 bytes, and by its formula 7"


def test_a_rank_that_dies_hangs_or_raises_is_named_and_nothing_is_left(attnbench: Command) -> None:
    scenario = attnbench.folder / "brief.toml"
    scenario.write_text("[limits]\ntime_s = 12\n[defaults]\nseqlen = 64\nheads = 2\nhead_dim = 16\n")
    names = [text for name in ("killed", "asleep", "raising") for text in ("-i", f"^mutant/{name}$")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, str(attnbench.folder))
        records = by_name(attnbench, "check", scenario, "-p", MUTANTS, *names, "--ranks", "2")
    killed, asleep, raising = (records[f"mutant/{name}@2"] for name in ("killed", "asleep", "raising"))
    assert (killed["status"], killed["stage"]) == ("crashed", "call")
    assert "rank 1 was ended by SIGKILL" in killed["reason"]
    assert (asleep["status"], asleep["stage"]) == ("timeout", "call")
    assert "rank 1 is at mutants.py, line " in asleep["reason"]
    assert " in sleeps; rank 0 waits for another at ring.py, line " in asleep["reason"]
    assert (raising["status"], raising["stage"]) == ("error", "call")
    assert raising["reason"].startswith("RankFailedError: rank 1: ValueError: no more (mutants.py:")
    assert not left_over(attnbench.folder)


def test_conduct_is_looked_at_on_every_rank(attnbench: Command) -> None:
    late = "what a call returned was changed afterwards: it goes on after it returned, or reuses its output"
    due = {
        "writes-inputs": "rank 1: the call wrote into its inputs: k",
        "hands-out-input": "rank 1: out lies in the memory of input q: a result must have its own",
        "reuses-output": "rank 1: out lies in the memory of an earlier call's out: a result must have its own",
        "ends-later": f"rank 1: {late}",
        "returns-subclass": "rank 1: the call returned Lazy as out, not a torch.Tensor",
    }
    records = by_name(attnbench, "check", "-p", MUTANTS, "-i", "^conduct/", "--ranks", "2", *SMALL)
    found = {name: (one["status"], one["reason"]) for name, one in records.items()}
    assert found == {f"conduct/{name}@2": ("wrong", reason) for name, reason in due.items()}


def test_who_holds_tokens_that_others_hold_too_or_returns_another_share_is_told(attnbench: Command) -> None:
    due = {
        "holding/all": "ValueError: tokens: ranks 0 and 1 both hold token 0 of q (",
        "holding/too-few": "ValueError: tokens: no rank holds token 3 of q (",
        "holding/beyond": "ValueError: tokens: ranks 0 and 1 both hold token 31 of q (",
        "share/of-a-head": "ValueError: rank 1 returned out of shape (1, 1, 32, 16) in torch.float32, and (1, 2, 32,",
        "share/in-float64": "ValueError: rank 1 returned out of shape (1, 2, 32, 16) in torch.float64, and",
        "share/ends-well": "RankFailedError: rank 1 ended its process, with exit code 0 (",
    }
    shape = ("-a", "seqlen=64", "-a", "heads=2", "-a", "head_dim=16")
    records = by_name(attnbench, "check", "-p", MUTANTS, "-i", "^holding/", "-i", "^share/", "--ranks", "2", *shape)
    for name, beginning in due.items():
        record = records[f"{name}@2"]
        assert record["status"] == "error", record["reason"]
        assert record["reason"].startswith(beginning)


def test_collectives_with_a_root_are_counted_and_left_out(attnbench: Command) -> None:
    shape = ("-a", "seqlen=64", "-a", "heads=2", "-a", "head_dim=16")
    records = by_name(attnbench, "run", "-p", MUTANTS, "-i", "^rooted/", "--ranks", "2", *shape, "--peaks", "none")
    record = timed(records["rooted/gathered@2"])
    assert record["status"] == "ok", record["reason"]
    assert record["ranks_sent_bytes"] == 3 * 4 * 2 * 32 * 32  # half of the keys and values, then all of them
    record = timed(records["rooted/objects@2"])
    assert record["status"] == "ok", record["reason"]
    assert record["ranks_sent_bytes"] > 2 * 4 * 2 * 32 * 32  # each half to the other rank, and the objects


def left_over(folder: Path) -> list[str]:
    """Return the processes with the test's mark, ranks and their launchers, that are still running."""
    mark = f"{MARK}={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
            if mark in (process / "environ").read_bytes() and "attnbench.worker" in command:
                found.append(command)
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def test_who_runs_on_several_ranks_is_not_run_unless_it_is_said_on_how_many(attnbench: Command) -> None:
    done = attnbench("check", "-i", "^ring/torch$", *SMALL)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "attnbench: ring/torch: runs on several ranks; attnbench run and check say on how many, with --ranks\n"
    )


@pytest.mark.parametrize("option", ["-i", "-x"])
def test_a_name_with_its_ranks_chooses_nothing_and_that_is_told(attnbench: Command, option: str) -> None:
    done = attnbench("check", "-i", "^ring/torch$", option, "ring/torch@2", "--ranks", "2", "--dry-run", *SMALL)
    assert (done.code, done.out) == (2, "")
    said = "'ring/torch@2' is a name of results: choose ring/torch, and with --ranks on how many"
    assert done.err == f"attnbench: {said}\n"


def test_ranks_that_are_said_twice_run_once(attnbench: Command) -> None:
    done = attnbench("check", "-i", "^ring/torch$", "--ranks", "2", "--ranks", "2", "--dry-run", *SMALL)
    assert done.err.startswith("1 cell to run") or done.out.startswith("1 cells to run"), (done.out, done.err)


def test_torchs_own_says_why_it_does_not_run_on_a_cpu(attnbench: Command) -> None:
    records = by_name(attnbench, "check", "-i", "^context-parallel/torch$", "--ranks", "2", *SMALL)
    (record,) = records.values()
    assert record["status"] == "unsupported"
    assert "does not have a sharding strategy" in record["reason"]
