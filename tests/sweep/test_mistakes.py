"""Messages are part of the interface, so each is written out in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from attnbench.cases.choices import INPUT_FAMILIES
from attnbench.sweep.fields import NAMES
from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import Limits, Scenario, ScenarioError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


KEYS, LIMITS, FIELDS = (
    f" (there are {', '.join(names)})" for names in (Scenario.model_fields, Limits.model_fields, NAMES)
)
CONDITIONS = f"{FIELDS.removesuffix(')')}, device, implementation, reason)"
MISTAKES = {
    # unknown names
    'descripton = "x"': f"descripton: unknown key; did you mean 'description'?{KEYS}",
    "axis.seqlen = [1]": f"axis: unknown key; did you mean 'axes'?{KEYS}",
    "limits.time = 3": f"limits.time: unknown key; did you mean 'time_s'?{LIMITS}",
    "limits.timeout = 3": f"limits.timeout: unknown key; did you mean 'time_s'?{LIMITS}",
    "defaults.seqlenq = 3": f"defaults.seqlenq: unknown field; did you mean 'seqlen_q'?{FIELDS}",
    "defaults.kv_heads = 3": f"defaults.kv_heads: unknown field; did you mean 'heads_kv'?{FIELDS}",
    "axes.causal = [true]": f"axes.causal: unknown field; did you mean 'mask'?{FIELDS}",
    "axes.colour = [3]": f"axes.colour: unknown field{FIELDS}",
    "exclude = [{hed_dim = 3}]": f"exclude[0].hed_dim: unknown field; did you mean 'head_dim'?{CONDITIONS}",
    # values, each with its place
    'axes.mode = ["forward", "forwards"]': (
        "axes.mode[1]: 'forwards' is none of forward, backward, forward_backward; did you mean 'forward'?"
    ),
    'axes.alignment = ["left_top"]': (
        "axes.alignment[0]: 'left_top' is none of top_left, bottom_right; did you mean 'top_left'?"
    ),
    'defaults.mode = "training"': (
        "defaults.mode: 'training' is none of forward, backward, forward_backward; did you mean 'forward_backward'?"
    ),
    'axes.mode = "f"': "axes.mode: 'f' is none of forward, backward, forward_backward",
    'shapes.a.inputs = "norml"': (
        f"shapes.a.inputs: 'norml' is none of {', '.join(INPUT_FAMILIES)}; did you mean 'normal'?"
    ),
    "axes.heads_q = [128, 0]": "axes.heads_q[1]: 0 is not an integer >= 1, or a size such as 16k",
    "axes.seqlen = [true]": "axes.seqlen[0]: True is not an integer >= 0, or a size such as 16k",
    'axes.seqlen = ["128..1000"]': "axes.seqlen[0]: '128..1000' is no range: doubling 128 does not reach 1000",
    "axes.seqlen = []": "axes.seqlen: an axis without values leaves no case",
    "defaults.seed = -1": "defaults.seed: -1 is not an integer >= 0, or a size such as 16k",
    "defaults.softcap = 0": "defaults.softcap: 0 is not a number > 0",
    'defaults.document_causal = "yes"': "defaults.document_causal: 'yes' is not true or false",
    "shapes.a.kv_lengths = 3": (
        "shapes.a.kv_lengths: 3 is not a list of lengths, such as [3, 5] (3+5 on the command line)"
    ),
    "shapes.a.seqlen = [128, 512]": (
        "shapes.a.seqlen: [128, 512] is not an integer >= 0, or a size such as 16k; several values go into [axes]"
    ),
    "shapes.a = 3": "shapes.a: 3 is not a table",
    'devices = ["gpu"]': "devices[0]: 'gpu' is none of cpu, cuda; did you mean 'cuda'?",
    "devices = []": "devices: []: without a device nothing would run",
    'stages = ["tim"]': "stages[0]: 'tim' is none of agreement, time, memory, energy; did you mean 'time'?",
    'tags = "cpu"': "tags: 'cpu' is not a list",
    "baseline = 3": "baseline: 3 is not a text in quotes",
    "limits.sampling_s = 0": "limits.sampling_s: 0: it must be greater than 0",
    'limits.memory_gib = "much"': "limits.memory_gib: 'much' is not a number",
    "limits.min_samples = 300": "limits.min_samples: 300 is more than max_samples = 200",
    'implementations = ["naive/("]': (
        "implementations[0]: 'naive/(': it is no regular expression: missing ), unterminated subpattern at position 6"
    ),
    # groups that vary together
    "zip = [{heads_q = 8}]": (
        "zip[0].heads_q: 8 is not a list: fields that vary together have one value for each step"
    ),
    "zip = [{heads_q = [8, 8], heads_kv = [8]}]": (
        "zip[0]: lists that vary together must be equally long: heads_q has 2, heads_kv has 1"
    ),
    'zip = [{heads_q = ["1..8"]}]': "zip[0].heads_q[0]: '1..8' is not an integer >= 1, or a size such as 16k",
    "zip = [{}]": "zip[0]: a group without values leaves no case",
    "[zip]\nheads = [1]": "zip: write [[zip]] with two brackets: there may be several",
    # rules
    "[exclude]\nheads = 1": "exclude: write [[exclude]] with two brackets: there may be several",
    'exclude = [{reason = "x"}]': "exclude[0]: a rule without a condition would drop every cell",
    'exclude = [{seqlen = "> 4z"}]': "exclude[0].seqlen: '4z' is not an integer >= 0, or a size such as 16k",
    'exclude = [{mask = "> 4"}]': "exclude[0].mask: '> 4' compares, and mask has no order",
    'exclude = [{kv_cache = ["dense", "page"]}]': (
        "exclude[0].kv_cache[1]: 'page' is none of dense, paged, latent; did you mean 'paged'?"
    ),
    'exclude = [{implementation = "("}]': (
        "exclude[0].implementation: '(': it is no regular expression: missing ), unterminated subpattern at position 0"
    ),
    # what would have no effect
    'tags = ["model"]': "source: a scenario tagged 'model' must say where its shapes come from",
    "axes.seqlen = [1]\naxes.seqlen_kv = [2]": ("axes.seqlen_kv: axes.seqlen sets seqlen_kv too: one place must do it"),
    "axes.heads = [1]\nzip = [{heads_q = [1]}]": ("axes.heads: zip[0].heads_q sets heads_q too: one place must do it"),
    "axes.seqlen = [1]\ndefaults.seqlen_q = 2": ("defaults.seqlen_q: no case would take it: axes.seqlen comes after"),
    "axes.mode = ['forward']\nshapes.a.mode = 'backward'": (
        "shapes.a.mode: no case would take it: axes.mode comes after"
    ),
}


@pytest.mark.parametrize(("text", "sentence"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_sentence_with_its_place(
    problems: Callable[[str], list[str]], text: str, sentence: str
) -> None:
    assert problems(text) == [sentence]


def test_all_mistakes_of_a_file_are_reported_at_once(problems: Callable[[str], list[str]]) -> None:
    text = """
        descripton = "x"
        defaults.dtype = "float33"
        axes = { mask = [], seqlen = [1, "x"] }
        shapes.a.heads = 0
        exclude = [{ seqlen = "> x", mask = "> 4" }]
        limits.tim_s = 3
    """
    places = [problem.partition(":")[0] for problem in problems(text)]
    assert places == [
        "defaults.dtype", "axes.mask", "axes.seqlen[1]", "shapes.a.heads", "exclude[0].seqlen", "exclude[0].mask",
        "limits.tim_s", "descripton",
    ]  # fmt: skip


def test_the_message_names_the_file_and_counts_its_mistakes(write: Callable[..., str]) -> None:
    path = write("a = 1\nb = 2")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(caught.value) == f"{path} has 2 mistakes:\n  a: unknown key{KEYS}\n  b: unknown key{KEYS}"


def test_malformed_toml_is_reported_with_line_and_column(problems: Callable[[str], list[str]]) -> None:
    assert problems("axes.seqlen = [1]\naxes.mask = = 2") == ["it is not TOML: Invalid value (at line 2, column 13)"]


def test_a_file_with_a_byte_order_mark_and_carriage_returns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "notepad.toml"
    path.write_bytes(b'\xef\xbb\xbfdescription = "x"\r\n[defaults]\r\nmask = "causal"\r\n')
    assert load_scenario(str(path)).defaults == {"mask": "causal"}


def test_a_file_that_is_not_there_is_reported(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("empty") / "none.toml"
    with pytest.raises(ScenarioError, match=r"none\.toml: it cannot be read: No such file or directory$"):
        load_scenario(str(path))


def test_an_unknown_scenario_name_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(
        ScenarioError,
        match=r"^scenario 'qick': no scenario has this name; did you mean 'quick'\? \(there are bert-base, ",
    ):
        load_scenario("qick")
