from __future__ import annotations

import importlib.resources
import json
import subprocess
import sys
import tomllib
from typing import Any

import jsonschema
import pytest

from attnbench.cases.choices import CHOICES, INPUT_FAMILIES
from attnbench.cases.cost import flops
from attnbench.cases.masks import visible_pairs
from attnbench.sweep.expand import PlannedCase, expand
from attnbench.sweep.load import bundled_scenarios, load_scenario, scenario_schema
from attnbench.sweep.model import Scenario

NAMES = tuple(bundled_scenarios())


def planned(name: str, *devices: str) -> list[PlannedCase]:
    """Return the cases that some implementation runs on one of the devices."""
    scenario = load_scenario(name)
    kept = expand(scenario, {})
    return [one for one in kept if any(scenario.excluded(one.case, device, "any/one") is None for device in devices)]


def test_the_bundled_scenarios_are_these() -> None:
    assert NAMES == (
        "bert-base", "block-sparse", "cpu-decode", "cpu-decode-int8", "cpu-race", "deepseek-v3", "dtypes",
        "edge-shapes", "gate-smoke", "gpt2", "heads", "hopper", "llama3-8b-decode", "llama3-8b-prefill",
        "long-context", "masks", "modes", "quick", "scaling", "serve-chat", "serve-code", "serve-rag", "t5-base",
        "vit-b16", "whisper-small",
    )  # fmt: skip


def test_editors_find_the_schema_of_scenario_files() -> None:
    """`make docs` writes the schema."""
    folder = importlib.resources.files("attnbench.scenarios")
    assert json.loads((folder / "scenario.schema.json").read_text()) == scenario_schema()
    for name in NAMES:
        assert (folder / f"{name}.toml").read_text().startswith("#:schema ./scenario.schema.json\n")


@pytest.mark.parametrize("name", NAMES)
class TestEveryBundledScenario:
    def test_expands_to_cases_for_each_of_its_devices(self, name: str) -> None:
        scenario = load_scenario(name)
        for device in scenario.devices:
            assert planned(name, device)

    def test_describes_itself_in_one_sentence(self, name: str) -> None:
        description = load_scenario(name).description
        assert description.endswith(".")
        assert description.count(". ") == 0
        assert bundled_scenarios()[name] == description

    def test_survives_the_header_of_a_run(self, name: str) -> None:
        scenario = load_scenario(name)
        assert Scenario.from_dict(json.loads(json.dumps(scenario.to_dict()))) == scenario

    def test_keeps_to_the_published_schema(self, name: str) -> None:
        table = tomllib.loads((importlib.resources.files("attnbench.scenarios") / f"{name}.toml").read_text())
        jsonschema.validate(table, scenario_schema())


def test_quick_is_quick() -> None:
    cases = [one.case for one in planned("quick", "cpu")]
    assert 5 <= len(cases) <= 7  # some 60 to 80 cells over a dozen implementations
    assert max(flops(case) for case in cases) < 3e9
    assert load_scenario("quick").limits.sampling_s <= 0.25


def test_quick_shows_one_of_each_kind() -> None:
    cases = [one.case for one in planned("quick", "cpu")]
    assert any(case.mask == "causal" for case in cases)
    assert any(case.heads_kv < case.heads_q for case in cases)
    assert any(case.dtype == "bfloat16" for case in cases)
    assert any(case.mode == "backward" for case in cases)
    assert any(case.operator == "multi_head_attention" for case in cases)


def test_scaling_goes_to_16k_on_the_cpu_and_to_128k_on_cuda() -> None:
    on_cpu = [one.case for one in planned("scaling", "cpu")]
    on_cuda = [one.case for one in planned("scaling", "cuda")]
    assert [case.seqlen_q for case in on_cpu] == [128 * 2**n for n in range(8)]
    assert [case.seqlen_q for case in on_cuda] == [128 * 2**n for n in range(11)]
    assert {case.dtype for case in on_cpu} == {"float32"}
    assert {case.dtype for case in on_cuda} == {"bfloat16"}


@pytest.mark.parametrize("implementation", ["naive/torch", "naive/numpy", "torch/sdpa-math"])
def test_scaling_keeps_matrices_of_scores_below_24_gib(implementation: str) -> None:
    scenario = load_scenario("scaling")
    for one in planned("scaling", "cpu", "cuda"):
        for device in ("cpu", "cuda"):
            if scenario.excluded(one.case, device, implementation) is None:
                scores = one.case.heads_q * one.case.seqlen_q * one.case.seqlen_kv
                assert 3 * 4 * scores < 24 * 2**30


def test_edge_shapes_checks_agreement_only_and_in_moderate_number() -> None:
    assert load_scenario("edge-shapes").stages == ("agreement",)
    assert 120 <= len(planned("edge-shapes", "cpu")) <= 340


def test_edge_shapes_are_small_enough_for_the_slowest() -> None:
    assert max(flops(one.case) for one in planned("edge-shapes", "cpu")) < 1e9


def test_edge_shapes_have_every_kind_of_edge() -> None:
    cases = [one.case for one in planned("edge-shapes", "cpu")]
    assert {1, 63, 64, 65, 127, 128, 129, 251, 704} <= {case.seqlen_q for case in cases}
    assert {8, 40, 64, 80, 96, 192, 256} <= {case.head_dim for case in cases}
    assert {1, 3, 4, 5, 8} <= {case.heads_q // case.heads_kv for case in cases}
    assert {case.mask for case in cases} == {
        "none", "causal", "sliding_window", "prefix_lm", "document", "key_padding", "tree", "tensor",
        "ragged", "sliding_window & ragged",
        "causal & key_padding", "block_sparse", "causal & block_sparse",
        "causal & left_padding", "key_padding & left_padding", "sliding_window & document",
        "left_padding & tree",
    }  # fmt: skip
    assert {mod for case in cases for mod in case.score_mods} == set(CHOICES["score_mod"])
    combined = {case.score_mod for case in cases if "&" in case.score_mod}
    assert combined == {"softcap & alibi", "softcap & bias", "softcap & bias & sink"}
    assert {bool(case.bias_grad) for case in cases} == {bool(case.dropout) for case in cases} == {False, True}
    assert {case.strides for case in cases} == set(CHOICES["strides"])
    assert {case.mode for case in cases} == {"forward", "backward", "forward_backward"}
    assert {case.inputs for case in cases} == set(INPUT_FAMILIES)
    assert {case.kv_cache for case in cases} == set(CHOICES["kv_cache"])
    assert {case.kv_dtype or "none" for case in cases} == set(CHOICES["kv_dtype"])
    assert {case.operator for case in cases} == {"attention", "multi_head_attention"}
    for longer, shorter in (("seqlen_kv", "seqlen_q"), ("seqlen_q", "seqlen_kv")):
        corners = {c.alignment for c in cases if c.mask == "causal" and getattr(c, longer) > getattr(c, shorter) > 1}
        assert corners == {"top_left", "bottom_right"}
    assert any(case.head_dim_v < case.head_dim for case in cases)
    assert any(case.head_dim_v > case.head_dim for case in cases)
    assert any(case.batch > 1 and case.kv_lengths is not None and 0 in case.kv_lengths for case in cases)


@pytest.mark.parametrize(
    ("name", "heads", "dims", "lengths"),
    [
        ("bert-base", (12, 12), 64, {(128, 128), (512, 512)}),
        ("gpt2", (12, 12), 64, {(256, 256), (1024, 1024)}),
        ("t5-base", (12, 12), 64, {(512, 512), (128, 128), (128, 512)}),
        ("vit-b16", (12, 12), 64, {(197, 197)}),
        ("whisper-small", (12, 12), 64, {(1500, 1500), (448, 448), (448, 1500), (1, 1500)}),
        ("llama3-8b-prefill", (32, 8), 128, {(n, n) for n in (512, 1024, 2048, 4096, 8192)}),
        ("llama3-8b-decode", (32, 8), 128, {(1, 1024), (1, 8192)}),
    ],
)
def test_models_have_their_published_shapes(
    name: str, heads: tuple[int, int], dims: int, lengths: set[tuple[int, int]]
) -> None:
    cases = [one.case for one in planned(name, "cpu", "cuda")]
    assert {(case.heads_q, case.heads_kv) for case in cases} == {heads}
    assert {case.head_dim for case in cases} | {case.head_dim_v for case in cases} == {dims}
    assert {(case.seqlen_q, case.seqlen_kv) for case in cases} == lengths
    assert load_scenario(name).source


def test_t5_scores_are_unscaled_and_its_cross_attention_has_no_bias() -> None:
    by_shape = {one.tags: one.case for one in planned("t5-base", "cpu")}
    assert {case.scale for case in by_shape.values()} == {1.0}
    assert {tags[0]: (case.mask, case.score_mod) for tags, case in by_shape.items()} == {
        "encoder": ("none", "relative_bias"),
        "decoder": ("causal", "relative_bias"),
        "cross": ("none", "none"),
    }


def test_a_decoding_query_sees_every_key() -> None:
    for one in planned("llama3-8b-decode", "cpu"):
        assert visible_pairs(one.case) == one.case.batch * one.case.seqlen_kv


def test_the_schema_refuses_what_loading_refuses() -> None:
    wrong: list[dict[str, Any]] = [
        {"descripton": "x"},
        {"axes": {"seqlne": [1]}},
        {"axes": {"dtype": ["bloat16"]}},
        {"defaults": {"seqlen": "16q"}},
        {"defaults": {"seqlen": "1..4"}},
        {"exclude": [{"sqlen": 3}]},
        {"exclude": [{"mask": "> 4"}]},
        {"defaults": {"mask": "causal & full"}},
        {"limits": {"time": 3}},
        {"zip": [{"heads_q": 3}]},
        {"devices": ["gpu"]},
    ]
    validator = jsonschema.Draft202012Validator(scenario_schema())
    assert [table for table in wrong if validator.is_valid(table)] == []
    assert validator.is_valid({"defaults": {"mask": "causal & key_padding"}})


def loaded_by(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(json.loads(out))


def test_a_scenario_is_expanded_without_heavy_libraries() -> None:
    modules = loaded_by(
        "from attnbench.sweep.load import load_scenario\nfrom attnbench.sweep.expand import expand\n"
        "expand(load_scenario('quick'), {})"
    )
    assert "pydantic" in modules
    assert not {"torch", "numba", "pandas", "scipy", "altair"} & modules


def test_scenarios_are_listed_without_pydantic() -> None:
    modules = loaded_by("from attnbench.sweep.load import bundled_scenarios\nbundled_scenarios()")
    assert "attnbench.sweep.load" in modules
    assert "pydantic" not in modules


def test_gate_smoke_has_thirty_quick_cells_and_a_fixed_number_of_samples() -> None:
    scenario = load_scenario("gate-smoke")
    cases = [one.case for one in planned("gate-smoke", "cpu")]
    assert len(cases) * len(scenario.implementations) == 30
    assert max(flops(case) for case in cases) < 3e8
    assert scenario.limits.min_samples == scenario.limits.max_samples, "stopping when it is narrow enough would bias"
