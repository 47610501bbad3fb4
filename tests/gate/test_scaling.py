"""The exponent of growth: steeper laws are found, and noise is not taken for one."""

from __future__ import annotations

import datetime
import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from attnbench.cases.case import Case, make_case
from attnbench.gate.gate import judge
from attnbench.gate.judge.statistics import Rules
from attnbench.gate.measure.rounds import Round
from attnbench.gate.verdict import GateResult, Verdict
from attnbench.gate.waivers import Waiver, WaiverError, apply_waivers, read_waivers
from attnbench.store.reader import RunFile, read_run
from attnbench.views.document import markdown
from attnbench.views.gate.annotations import workflow_commands
from attnbench.views.gate.exports import github_action_benchmark
from attnbench.views.gate.junit import junit
from attnbench.views.gate.table import gate_view
from tests.gate.conftest import plan
from tests.views.conftest import timed, write

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
MIB = 2**20
Law = Callable[[int], float]


def linear(n: int) -> float:
    return 4096.0 * n


def quadratic(n: int) -> float:
    return 50_000 + 1.5 * n * n


class Grown:
    """Makes gates of one implementation whose time (ns) and memory (bytes) follow laws of the length."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "runs").mkdir()

    def __call__(
        self,
        *,
        time: tuple[Law, Law] = (quadratic, quadratic),
        memory: tuple[Law, Law] = (linear, linear),
        fresh: tuple[Law, Law] | None = None,
        lengths: Sequence[int] = LENGTHS,
        noise: float = 0.007,
        common: float = 0.005,
        seed: int = 0,
        rules: Rules | None = None,
        queries: int | None = None,
    ) -> GateResult:
        """Judge a gate; ``fresh`` are the laws of memory in the second stage, if they differ."""
        rng = np.random.default_rng(seed)

        def run(stage: str, number: int, side: int) -> RunFile:
            of_memory = (fresh if stage == "confirm" else None) or memory
            level = math.exp(common * rng.standard_normal() / math.sqrt(2))
            lines = []
            for n in lengths:
                case: Case = make_case(seqlen_q=queries or n, seqlen_kv=n)
                median = time[side](n) * level * math.exp(noise * rng.standard_normal() / math.sqrt(2))
                peak = round(of_memory[side](n) + rng.integers(0, 30_000))
                given = {"memory_peak_bytes": peak, "memory_resolution_bytes": 128 * 1024}
                lines.append(timed(case, "a/plain", median, **given))
            return read_run(write(self._folder / "runs" / f"{stage}-{number}-{side}.jsonl", lines))

        screens, confirms = (
            [
                Round(stage=stage, number=n, first="base", base=run(stage, n, 0), head=run(stage, n, 1))
                for n in range(count)
            ]
            for stage, count in (("screen", 4), ("confirm", 8))
        )
        return judge(plan(rules or Rules(), {}), self._folder, screens, confirms, ["attnbench", "gate"])


@pytest.fixture
def grown(tmp_path: Path) -> Grown:
    """Return a maker of gates of series of lengths."""
    return Grown(tmp_path)


def exponent(result: GateResult, of: str) -> Verdict:
    """Return the verdict on the growth of a quantity."""
    (found,) = [one for one in result.verdicts if one.metric == "exponent" and one.of == of]
    return found


def test_unchanged_code_grows_alike_and_says_how(grown: Grown) -> None:
    result = grown()
    assert [exponent(result, of).verdict for of in ("time", "memory")] == ["same", "same"]
    assert exponent(result, "time").head == pytest.approx(2, abs=0.02)
    assert exponent(result, "memory").head == pytest.approx(1, abs=0.1)
    assert exponent(result, "time").label == "a/plain, forward b1 h8 d64 float32, time over seqlen 128 to 4096"
    assert exponent(result, "time").sentence.startswith("time grows as n^2.0")
    assert result.exit_code == 0


def test_a_higher_exponent_of_memory_fails_and_is_filed_under_the_longest_case(grown: Grown) -> None:
    result = grown(memory=(linear, lambda n: 4096.0 * n * (n / 128) ** 0.5))
    one = exponent(result, "memory")
    assert one.verdict == "steeper"
    assert one.sentence.startswith("peak memory grows as n^1.5")
    assert one.case_id == make_case(seqlen_q=4096, seqlen_kv=4096).case_id
    assert one.head_low is not None
    assert one.base_high is not None
    assert one.head_low > one.base_high
    assert result.exit_code == 1


def test_a_quadratic_term_is_found_although_every_cell_is_within_what_is_tolerated(grown: Grown) -> None:
    def head(n: int) -> float:
        return 4096.0 * n + 0.1 * n * n  # 1.6 MiB in addition to 16 MiB at the longest length

    result = grown(memory=(linear, head), rules=Rules(memory=0.15))
    assert {v.verdict for v in result.verdicts if v.metric == "memory"} == {"same"}
    one = exponent(result, "memory")
    assert one.verdict == "steeper"
    assert one.sentence.startswith("head adds to peak memory a term that grows as ")
    assert "10.0 % at 4,096, about" in one.sentence
    assert result.exit_code == 1


def test_cubic_work_is_found_although_every_cell_is_within_what_is_tolerated(grown: Grown) -> None:
    def head(n: int) -> float:
        return quadratic(n) * (1 + 0.09 * n / 4096)

    result = grown(time=(quadratic, head), rules=Rules(delta=0.1))
    assert "slower" not in {v.verdict for v in result.all_verdicts}
    assert exponent(result, "time").verdict == "steeper"
    assert exponent(result, "time").sentence.startswith("head adds to time a term that grows as ")
    assert exponent(result, "memory").verdict == "same"


@pytest.mark.parametrize(
    "head",
    [
        lambda n: 1.3 * quadratic(n),  # slower by a factor
        lambda n: 80_000 + 1.5 * n * n,  # another floor
        lambda n: 20_000 + 1.8 * n * n,  # a lower floor and a larger factor
        lambda n: quadratic(n) * (1.3 if n > 1000 else 1),  # the cache becomes too small
        lambda n: quadratic(n) * (1.3 if n > 4000 else 1),  # the same at the longest length only
    ],
)
def test_a_factor_a_floor_and_a_step_are_no_steeper_law(grown: Grown, head: Law) -> None:
    one = exponent(grown(time=(quadratic, head)), "time")
    assert one.verdict in ("same", "ambiguous")
    assert "term" not in one.sentence


def test_memory_that_is_added_everywhere_or_at_one_length_is_no_steeper_law(grown: Grown) -> None:
    assert exponent(grown(memory=(linear, lambda n: linear(n) + MIB / 2)), "memory").verdict == "same"
    (grown._folder / "step").mkdir()

    def step(n: int) -> float:
        return linear(n) + (4 * MIB if n == 4096 else 0)

    assert exponent(Grown(grown._folder / "step")(memory=(linear, step)), "memory").verdict == "same"


def test_a_flatter_law_is_an_improvement(grown: Grown) -> None:
    result = grown(memory=(lambda n: 16.0 * n * n, lambda n: 4096.0 * n))
    assert exponent(result, "memory").verdict == "flatter"
    assert not any(one.regressed for one in result.all_verdicts)


def test_what_does_not_come_back_in_fresh_processes_is_no_regression(grown: Grown) -> None:
    def once(n: int) -> float:
        return 4096.0 * n + 2.0 * n * n

    assert exponent(grown(memory=(linear, once), fresh=(linear, linear)), "memory").verdict == "same"


@pytest.mark.parametrize("lengths", [(128, 512, 2048, 4096), (128, 160, 192, 224, 256)])
def test_too_few_lengths_or_too_narrow_ones_have_no_verdict_and_the_page_says_so(
    grown: Grown, lengths: Sequence[int]
) -> None:
    result = grown(memory=(linear, lambda n: 16.0 * n * n), lengths=lengths)
    assert not [one for one in result.verdicts if one.metric == "exponent"]
    assert any(note.startswith("No exponent of time of a/plain, forward b1 h8 d64 float32") for note in result.notes)


def test_a_single_length_is_no_series_and_the_page_says_what_it_takes(grown: Grown) -> None:
    assert any("that takes 5 sequence lengths over a factor of 8" in note for note in grown(lengths=(128,)).notes)


def test_the_series_of_a_decoder_is_one_of_keys(grown: Grown) -> None:
    result = grown(time=(lambda n: 40.0 * n, lambda n: 40.0 * n), queries=1)
    assert exponent(result, "time").label.endswith("h8 s1 d64 float32, time over seqlen_kv 128 to 4096")


def test_a_larger_tolerance_lets_a_higher_exponent_pass(grown: Grown) -> None:
    def head(n: int) -> float:
        return float(4096.0 * n * (n / 128) ** 0.15)

    assert exponent(grown(memory=(linear, head), rules=Rules(exponent=0.3)), "memory").verdict == "same"


def test_noise_of_a_shared_machine_is_no_law(tmp_path: Path) -> None:
    """The tolerance of 0.1 is seven standard deviations of the difference of exponents on that machine."""
    differences = []
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        result = Grown(folder)(noise=0.025, common=0.03, seed=seed, lengths=LENGTHS[:5])
        assert exponent(result, "time").verdict == "same"
        assert exponent(result, "memory").verdict == "same"
        one = exponent(result, "time")
        differences.append((one.head or 0) - (one.base or 0))
    assert 0.001 < float(np.std(differences)) < 0.1 / 5


def test_exponents_that_differ_by_noise_alone_are_the_same_where_their_intervals_meet(grown: Grown) -> None:
    one = exponent(grown(noise=0.3, seed=4, lengths=LENGTHS[:5]), "time")
    assert one.base is not None and one.head is not None  # noqa: PT018 - both, for the type checker
    assert one.base - one.head > 0.1  # more than the tolerance
    assert one.verdict == "same"


@pytest.fixture
def steeper(grown: Grown) -> GateResult:
    """Return a gate whose only regressions are in the growth of memory."""

    def head(n: int) -> float:
        return 4096.0 * n + 0.1 * n * n

    return grown(memory=(linear, head), rules=Rules(memory=0.15))


def waiver(folder: Path, **given: str) -> list[Waiver]:
    """Read a file with one waiver of the growth of memory, with some lines replaced."""
    fields = {
        "case_id": f'"{make_case(seqlen_q=4096, seqlen_kv=4096).case_id}"', "implementation": '"a/plain"',
        "metric": '"exponent"', "of": '"memory"', "ceiling": "1.5", "expires": "2026-12-31", "issue": '"issues/12"',
        "reason": '"a table of blocks"',
    } | given  # fmt: skip
    file = folder / "waivers.toml"
    file.write_text("[[waiver]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items() if value))
    return read_waivers(file)


TODAY = datetime.date(2026, 11, 24)


def test_a_waiver_forgives_a_difference_of_exponents(steeper: GateResult, tmp_path: Path) -> None:
    assert steeper.exit_code == 1
    assert apply_waivers(steeper, waiver(tmp_path), TODAY).exit_code != 1
    lower = apply_waivers(steeper, waiver(tmp_path, ceiling="0.5"), TODAY)
    assert lower.exit_code == 1
    assert exponent(lower, "memory").sentence.endswith("; more than the 0.5 that its waiver forgives")
    other = apply_waivers(steeper, waiver(tmp_path, of='"time"'), TODAY)
    assert other.exit_code == 1
    assert any("exponent of time of a/plain" in note for note in other.notes)


@pytest.mark.parametrize("given", [{"of": ""}, {"metric": '"memory"'}])
def test_a_waiver_says_of_what_the_exponent_is(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(WaiverError, match='of = "time" or "memory" goes with the metric exponent'):
        waiver(tmp_path, **given)


def test_every_form_of_a_result_has_the_exponent(steeper: GateResult) -> None:
    jsonschema.validate(json.loads(steeper.model_dump_json()), GateResult.model_json_schema())
    text = markdown(gate_view(steeper))
    assert "| steeper | exponent | a/plain, forward b1 h8 d64 float32, memory over seqlen 128 to 4096 |" in text
    assert "Growth with the sequence length is the same in 1 series." in text
    (failure,) = ET.fromstring(junit(steeper)).iter("failure")  # noqa: S314
    assert failure.get("message", "").startswith("steeper: head adds to peak memory")
    assert workflow_commands(steeper).startswith("::error title=steeper%3A a/plain")
    assert len(github_action_benchmark(steeper)) == 2 * len(LENGTHS), "an exponent is no figure of a tracker"
