"""Without a replaced step, the steps are correct, so a mutant's only mistake is the one that it is named for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from attnbench import make_case
from attnbench.mutants.collection import mutants
from attnbench.mutants.mutant import Mutant, implementation_of
from attnbench.mutants.steps import Explicit, Steps, Tiled
from attnbench.mutants.trial import trial

ALL = mutants()
CASES: dict[str, dict[str, Any]] = {
    "causal": {"mask": "causal", "seqlen_q": 70, "seqlen_kv": 131, "alignment": "bottom_right"},
    "empty-rows": {"mask": "causal", "seqlen_q": 131, "seqlen_kv": 37, "alignment": "bottom_right"},
    "gqa": {"heads_q": 6, "heads_kv": 2, "head_dim": 40, "head_dim_v": 72},
    "softcap": {"score_mod": "softcap", "softcap": 2.0},
    "alibi": {"score_mod": "alibi", "mask": "causal"},
    "relative-bias": {"score_mod": "relative_bias"},
    "bias-gradient": {"score_mod": "bias", "bias_file": "random:1:batch+heads", "bias_grad": True, "mode": "backward"},
    "dropout": {"dropout": 0.3, "mask": "causal", "heads_kv": 1},
    "sink": {"score_mod": "sink", "mask": "causal"},
    "needle": {"inputs": "needle", "mask": "sliding_window", "window_left": 15, "window_right": 3},
    "negative-logits": {"inputs": "negative_logits", "mask": "causal"},
    "padding": {"mask": "key_padding", "batch": 2, "kv_lengths": [131, 0], "strides": "transposed"},
}


@pytest.mark.parametrize("steps", [Steps, Tiled, Explicit])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_with_no_step_replaced_it_agrees(steps: type[Steps], dtype: str, fields: dict[str, Any]) -> None:
    if steps is Explicit and fields.get("score_mod") == "sink":
        fields = {**fields, "score_mod": "none"}
    case = make_case(**{"heads_q": 2, "seqlen_q": 131, "mode": "forward_backward", **fields}, dtype=dtype)
    healthy = Mutant("healthy", "", None, implementation_of(steps, "mutant/healthy"))
    assert trial(case, [healthy]) == {"healthy": None}


def test_there_are_at_least_sixty_and_no_two_of_a_name() -> None:
    assert len(ALL) >= 60
    assert len({mutant.name for mutant in ALL}) == len(ALL)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_each_says_its_mistake_in_one_sentence(mutant: Mutant) -> None:
    assert re.fullmatch(r"(d[QKV]|[A-Z]).{8,140}\.", mutant.sentence)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mutant.name)
