"""Back ends of torch's scaled_dot_product_attention: which one runs, and why one does not."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from attnbench import make_case
from tests.implementations.conftest import implementation, operands_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

SMALL = {"heads_q": 2, "seqlen_q": 20, "head_dim": 8}


def backend_of(name: str, **fields: Any) -> str:
    """Return the back end that ran, as the implementation reports it."""
    one = implementation("pytorch.sdpa", name)
    case = make_case(**{**SMALL, **fields})
    operands = operands_of(case)
    assert one.prepare_hook is not None
    assert one.backend_hook is not None
    plan = one.prepare_hook(case, operands)
    return one.backend_hook(lambda: one.call(operands.q, operands.k, operands.v, case, plan))


def test_the_dispatcher_s_choice_is_seen() -> None:
    assert "flash" in backend_of("torch/sdpa")
    assert backend_of("torch/sdpa", head_dim_v=5).startswith("unfused")


def test_a_back_end_that_was_named_is_the_one_that_runs() -> None:
    assert "flash" in backend_of("torch/sdpa-flash")
    assert backend_of("torch/sdpa-math").startswith("unfused")


def test_the_mask_is_a_flag_only_where_torch_means_the_same_by_it() -> None:
    one = implementation("pytorch.sdpa", "torch/sdpa")
    assert one.prepare_hook is not None
    for fields, causal in (
        ({"mask": "causal"}, True),
        ({"mask": "causal", "seqlen_kv": 30, "alignment": "top_left"}, True),
        ({"mask": "causal", "seqlen_kv": 30, "alignment": "bottom_right"}, False),
        ({"mask": "causal", "score_mod": "alibi"}, False),
        ({"mask": "prefix_lm"}, False),
    ):
        case = make_case(**{**SMALL, **fields})
        plan = one.prepare_hook(case, operands_of(case))
        assert (plan.causal, plan.mask is None) == (causal, causal), case.label()


def refusal(name: str, **fields: Any) -> str | None:
    """Return the reason for refusing a case on a CPU, or ``None``."""
    one = implementation("pytorch.sdpa", name)
    assert one.supports_hook is not None
    return one.supports_hook(make_case(**{**SMALL, **fields}), "cpu")


def test_flash_refuses_unequal_head_dims_in_the_words_of_torch() -> None:
    reason = refusal("torch/sdpa-flash", head_dim_v=5)
    assert reason is not None
    assert reason.startswith(f"torch {torch.__version__}: Flash attention requires")
    assert "Triggered" not in reason


@pytest.mark.parametrize("name", ["torch/sdpa-efficient", "torch/sdpa-cudnn"])
def test_back_ends_for_cuda_are_refused_on_a_cpu(name: str) -> None:
    assert implementation("pytorch.sdpa", name).declaration.refuses(make_case(**SMALL), "cpu") is not None
    reason = refusal(name)
    assert reason is not None
    assert "No viable backend" in reason


def test_a_case_that_a_back_end_runs_is_not_refused() -> None:
    for fields in (
        {},
        {"mask": "causal", "seqlen_kv": 30},
        {"mask": "document"},
        {"score_mod": "alibi", "heads_kv": 1},
    ):
        assert refusal("torch/sdpa-flash", mode="backward", **fields) is None


def test_flex_attention_has_no_gradients_on_a_cpu_and_says_so() -> None:
    hook = implementation("pytorch.flex", "torch/flex").supports_hook
    assert hook is not None
    assert hook(make_case(**SMALL), "cpu") is None
    assert hook(make_case(**SMALL, mode="backward"), "cuda") is None
    reason = hook(make_case(**SMALL, mode="backward"), "cpu")
    assert reason is not None
    assert "inference only" in reason


def test_flex_attention_is_given_blocks_on_a_cpu_even_where_the_mask_hides_nothing() -> None:
    """Without blocks its kernel holds all scores at once."""
    one = implementation("pytorch.flex", "torch/flex")
    case = make_case(**{**SMALL, "seqlen_q": 300})
    assert one.prepare_hook is not None
    blocks = one.prepare_hook(case, operands_of(case)).block_mask
    assert blocks.BLOCK_SIZE == (128, 128)
    assert (blocks.full_kv_num_blocks + blocks.kv_num_blocks).unique().tolist() == [3]


@pytest.mark.parametrize(("module", "name"), [("naive_torch", "naive/torch-compile"), ("pytorch.flex", "torch/flex")])
def test_without_a_compiler_what_must_be_compiled_is_unavailable(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = implementation(module, name).available_hook
    assert hook is not None
    if any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        assert hook() is None
    monkeypatch.setenv("PATH", "")
    assert "C++ compiler" in str(hook())
