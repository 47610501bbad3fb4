"""A kernel that cheats only while it is timed is caught, and its time is not stored."""

from __future__ import annotations

import re

import pytest

from attnbench.machine.hardware.pinning import usable_processors
from tests.conftest import PLUGINS, Command, records_of

MISCONDUCT = {
    "garbage-in-nine-samples": ("wrong", r"^out of timed sample \d+ of \d+, .* times its budget"),
    "keeps-its-weights": ("wrong", "^out of timed sample"),
    "keeps-another-form-of-k": ("wrong", "^out of timed sample"),
    "follows-the-signs-of-v": ("wrong", "^out of timed sample"),
    "slows-the-clock": ("invalid", "^by the worker's clock its samples took .* by the runner's"),
    "shortens-samples": ("invalid", "^by the worker's clock its samples took .* by the runner's"),
    "leaves-no-rows": ("invalid", r"^of \d+ timed samples none left a row"),
    "keeps-its-inputs": ("invalid", "^two timed samples had the same inputs"),
    "changes-its-shape": ("wrong", "^a timed call returned out with the shape"),
    "changes-samples-later": ("invalid", "^samples of a visit add up to .* when they were taken"),
}


@pytest.fixture(scope="module")
def records(module_attnbench: Command) -> dict[str, dict[str, object]]:
    path = module_attnbench.folder / "run.jsonl"
    module_attnbench(
        "run", "-p", PLUGINS / "timed_misconduct.py", "-i", "^timed/", "-a", "seqlen=256", "-a", "heads=2",
        "--peaks", "none", "--out", path,
    )  # fmt: skip
    return {str(record["implementation"]): record for record in records_of(path)}


@pytest.mark.parametrize(("name", "found"), MISCONDUCT.items(), ids=MISCONDUCT)
def test_it_is_found(records: dict[str, dict[str, object]], name: str, found: tuple[str, str]) -> None:
    record, (status, reason) = records[f"timed/{name}"], found
    assert (record["status"], record["time_median_ns"]) == (status, None)
    assert re.search(reason, str(record["reason"]))


@pytest.mark.skipif(len(usable_processors()) < 2, reason="there is a single processor")
def test_a_kernel_keeps_to_the_processors_that_it_was_given(module_attnbench: Command) -> None:
    path = module_attnbench.folder / "processors.jsonl"
    module_attnbench(
        "run", "-p", PLUGINS / "timed_misconduct.py", "-i", "timed/takes-all-processors", "-a", "seqlen=64",
        "--peaks", "none", "--threads", "1", "--out", path,
    )  # fmt: skip
    [record] = records_of(path)
    assert record["status"] == "invalid"
    assert re.fullmatch(r"it was given processor \d+, and may use \d+(, \d+)* too", str(record["reason"]))


def test_without_misconduct_the_samples_agree(records: dict[str, dict[str, object]]) -> None:
    record = records["timed/none"]
    assert record["status"] == "ok", record["reason"]
    assert 0 < float(str(record["sample_error_ratio"])) <= 1


def test_what_is_remembered_from_call_to_call_has_no_time_of_its_own(records: dict[str, dict[str, object]]) -> None:
    """Each timed call has new inputs."""
    record = records["timed/remembers-by-writes"]
    assert (record["status"], record["calls_per_sample"]) == ("ok", 1), record["reason"]
