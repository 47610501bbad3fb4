"""Tensor files: the fields that they determine, messages where they do not, and how contents identify a case."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from attnbench.cases.case import make_case
from attnbench.cases.inputs.operands import file_problems, operand
from attnbench.cases.tensors.errors import TensorError
from attnbench.sweep.expand import adhoc, expand, parse_overrides
from attnbench.sweep.load import load_scenario
from attnbench.sweep.model import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.cases.case import Case

Q, K = (1, 4, 96, 32), (1, 2, 130, 32)


def values(*shape: int, dtype: str = "f4") -> np.ndarray[Any, np.dtype[Any]]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def qkv(path: Path, q: tuple[int, ...] = Q, k: tuple[int, ...] = K, **others: Any) -> Path:
    return saved(path, q=values(*q), k=values(*k), v=values(*k), **others)


def case_of(*axes: str) -> Case:
    (planned,) = expand(adhoc(), parse_overrides(axes))
    return planned.case


def refusal_of(*axes: str) -> str:
    with pytest.raises(ScenarioError) as refused:
        expand(adhoc(), parse_overrides(axes))
    return str(refused.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return qkv(tmp_path / "mine.npz")


def sizes(case: Case) -> tuple[int, ...]:
    return (case.batch, case.heads_q, case.heads_kv, case.seqlen_q, case.seqlen_kv, case.head_dim, case.head_dim_v)


class TestWhatAFileSettles:
    def test_sizes_and_dtype_need_not_be_typed(self, tmp_path: Path) -> None:
        arrays = {"q": values(2, 6, 5, 8, dtype="f2"), "k": values(2, 3, 7, 8), "v": values(2, 3, 7, 4)}
        half = saved(tmp_path / "half.npz", **arrays)
        case = case_of(f"inputs=file:{half}", "mode=forward_backward")
        assert sizes(case) == (2, 6, 3, 5, 7, 8, 4)
        assert (case.dtype, case.inputs_layout, case.mode) == ("float16", "bhsd", "forward_backward")

    def test_what_is_typed_stays_and_what_contradicts_is_told(self, file: Path) -> None:
        case = case_of(f"inputs=file:{file}", "dtype=bfloat16", "seqlen_q=64")
        assert (case.dtype, case.seqlen_q, case.seqlen_kv) == ("bfloat16", 64, 130)
        said = f"inputs = 'file:{file}': q has shape (1, 4, 96, 32), the case says (1, 4, 64, 32)"
        assert file_problems(case) == [said]

    def test_a_mask_and_a_bias_settle_the_axes_that_they_have(self, tmp_path: Path) -> None:
        mask = saved(tmp_path / "mask.npz", attn_mask=np.ones((3, 1, 5, 9), bool))
        bias = saved(tmp_path / "bias.npz", bias=values(6, 1, 9))
        case = case_of("mask=tensor", f"mask_file={mask}", "score_mod=bias", f"bias_file={bias}")
        assert sizes(case)[:5] == (3, 6, 6, 5, 9)
        assert file_problems(case) == []

    @pytest.mark.parametrize(
        ("q", "k", "v"),
        [
            ("query", "key", "value"),
            ("Query_States", "key_states", "value_states"),
            ("a.q_proj", "a.k_proj", "a.v_proj"),
        ],
    )
    def test_usual_names_are_known(self, tmp_path: Path, q: str, k: str, v: str) -> None:
        path = saved(tmp_path / "mine.npz", **{q: values(*Q), k: values(*K), v: values(*K)})
        case = case_of(f"inputs=file:{path}", "mode=backward")
        assert sizes(case)[:5] == (1, 4, 2, 96, 130)
        np.testing.assert_array_equal(operand(case, "k"), values(*K))
        (problem,) = file_problems(case)
        assert problem.endswith(f"no array 'dout' could be read: there is no dout, only '{q}, {k}, {v}'")

    def test_all_that_is_missing_is_told_at_once(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "mine.npz", q=values(*Q), layer=values(3))
        assert "there is no k, only 'q, layer'; there is no v, only 'q, layer'" in refusal_of(f"inputs=file:{path}")

    def test_one_of_two_alike_is_not_guessed(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "mine.npz", **{"0.q": values(*Q), "1.q": values(*Q), "k": values(*K), "v": values(*K)})
        assert "'0.q' and '1.q' could each be q" in refusal_of(f"inputs=file:{path}")


class TestLayout:
    @pytest.mark.parametrize(
        ("q", "k", "layout"),
        [
            ((1, 8, 128, 64), (1, 8, 128, 64), "bhsd"),
            ((2, 32, 1, 64), (2, 8, 300, 64), "bhsd"),  # decoding: heads of queries must be a multiple of the keys'
            ((2, 1, 32, 64), (2, 300, 8, 64), "bshd"),
            ((2, 100, 12, 64), (2, 70, 3, 64), "bshd"),
        ],
    )
    def test_is_told_by_the_shapes(self, tmp_path: Path, q: tuple[int, ...], k: tuple[int, ...], layout: str) -> None:
        assert case_of(f"inputs=file:{qkv(tmp_path / 'a.npz', q, k)}").inputs_layout == layout

    def test_is_asked_for_where_heads_may_be_tokens(self, tmp_path: Path) -> None:
        path = qkv(tmp_path / "a.npz", (1, 128, 8, 64), (1, 128, 8, 64))
        assert "write inputs_layout = 'bhsd' or 'bshd'" in refusal_of(f"inputs=file:{path}")
        assert case_of(f"inputs=file:{path}", "heads=8").inputs_layout == "bshd"
        assert case_of(f"inputs=file:{path}", "seqlen=8").inputs_layout == "bhsd"
        assert case_of(f"inputs=file:{path}", "inputs_layout=bhsd").heads_q == 128
        assert case_of(f"inputs=file:{path}", "inputs_layout=bshd").heads_q == 8

    def test_tokens_first_are_turned(self, tmp_path: Path) -> None:
        path = qkv(tmp_path / "a.npz", (2, 9, 4, 8), (2, 7, 2, 8))
        case = case_of(f"inputs=file:{path}")
        np.testing.assert_array_equal(operand(case, "q"), values(2, 9, 4, 8).swapaxes(1, 2))

    @pytest.mark.parametrize(
        ("q", "k", "sentence"),
        [
            ((4, 8), (4, 8), "must have the axes (batch, heads, seqlen, head_dim), not q (4, 8), k (4, 8), v (4, 8)"),
            ((1, 1, 4, 8), (1, 1, 5, 9), "the shapes do not fit each other: q (1, 1, 4, 8), k (1, 1, 5, 9)"),
            ((1, 3, 5, 8), (1, 2, 2, 8), "the shapes do not fit each other"),
            ((1, 0, 5, 8), (1, 0, 5, 8), "the shapes do not fit each other"),
        ],
    )
    def test_shapes_that_are_none_of_attention_are_told(
        self, tmp_path: Path, q: tuple[int, ...], k: tuple[int, ...], sentence: str
    ) -> None:
        assert sentence in refusal_of(f"inputs=file:{qkv(tmp_path / 'a.npz', q, k)}")

    def test_a_field_for_the_layout_needs_a_file(self) -> None:
        assert refusal_of("inputs_layout=bshd") == (
            "--axis: inputs_layout has no effect on any case: it needs inputs = 'file:PATH'"
        )


class TestContent:
    AXES = ("mask=tensor", "mask_file={}", "score_mod=bias", "bias_file={}", "inputs=file:{}")

    def case(self, path: Path) -> Case:
        return case_of(*(axis.format(path) for axis in self.AXES))

    def whole(self, path: Path, **changes: Any) -> Path:
        mask, bias = np.ones((96, 130), bool), values(4, 1, 130)
        return qkv(path, **{"mask": mask, "bias": bias, **changes})

    def test_a_case_is_known_by_what_its_files_hold(self, tmp_path: Path) -> None:
        case = self.case(self.whole(tmp_path / "a.npz"))
        (tmp_path / "moved").mkdir()
        shutil.copy(tmp_path / "a.npz", tmp_path / "moved" / "b.npz")
        moved = self.case(tmp_path / "moved" / "b.npz")
        assert moved.case_id == case.case_id
        assert moved != case
        assert str(tmp_path / "moved") in moved.inputs

    @pytest.mark.parametrize("name", ["mask", "bias"])
    def test_one_other_value_makes_another_case(self, tmp_path: Path, name: str) -> None:
        field = {"mask": ("mask=tensor", "mask_file"), "bias": ("score_mod=bias", "bias_file")}[name]
        whole = dict(np.load(self.whole(tmp_path / "a.npz")))
        whole[name].reshape(-1)[3] = 0
        saved(tmp_path / "b.npz", **whole)
        ids = {case_of(field[0], f"{field[1]}={tmp_path / file}").case_id for file in ("a.npz", "b.npz")}
        assert len(ids) == 2

    def test_a_file_that_changes_after_the_plan_is_an_error(self, tmp_path: Path) -> None:
        path = self.whole(tmp_path / "a.npz")
        case = make_case(**self.case(path).to_dict())  # as in a worker
        assert operand(case, "q").shape == Q
        self.whole(path, more=np.zeros(3))
        with pytest.raises(TensorError, match=r"a\.npz': .* other bytes than when the run was planned"):
            operand(case, "q")
        assert [problem.partition(" = ")[0] for problem in file_problems(case)][-2:] == ["mask_file", "bias_file"]

    def test_a_plan_that_is_taken_up_again_notices_it_too(self, file: Path) -> None:
        overrides = parse_overrides([f"inputs=file:{file}"])
        qkv(file, more=np.zeros(3))
        with pytest.raises(ScenarioError, match="it holds other bytes than when the run was planned"):
            expand(adhoc(), overrides)

    def test_a_path_in_a_scenario_begins_where_the_scenario_lies(
        self, tmp_path: Path, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.whole(tmp_path / "a.npz")
        scenario = write(
            'defaults = {inputs = "file:a.npz"}\n'
            '[shapes.all]\nmask = "causal & tensor"\nmask_file = "a.npz"\nscore_mod = "bias"\nbias_file = "./a.npz"\n'
            '[shapes.drawn]\nmask = "tensor"\nmask_file = "random:7"\n'
        )
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        first, second = (planned.case for planned in expand(load_scenario(scenario), {}))
        assert file_problems(first) == file_problems(second) == []
        assert (first.mask, second.mask_file) == ("causal & tensor", "random:7")

    def test_a_pipe_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.npz")
        assert "it is no regular file" in refusal_of(f"inputs=file:{tmp_path / 'pipe.npz'}")


class Planted:
    """An object whose unpickling runs code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("planted",)


class TestFilesOfTorch:
    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)

    def test_are_read_by_a_process_of_their_own(self, tmp_path: Path) -> None:
        q, k = torch.randn(1, 96, 4, 32, dtype=torch.bfloat16), torch.randn(1, 200, 2, 32, dtype=torch.bfloat16)
        turned = k.transpose(1, 2).contiguous().transpose(1, 2)  # another memory order
        torch.save({"layer": {"q_proj": q, "k_proj": k, "v_proj": turned, "n": 3}}, "x.pt")
        Path("safetensors.py").write_text("raise SystemExit('a file of the user stands in for a library')\n")
        case = case_of("inputs=file:x.pt")
        assert (sizes(case), case.dtype) == ((1, 4, 2, 96, 200, 32, 32), "bfloat16")
        for name, tensor in (("q", q), ("v", k)):
            np.testing.assert_array_equal(operand(case, name), tensor.transpose(1, 2).float().numpy())
        Path("x.pt").rename("y.pt")
        assert case_of("inputs=file:y.pt").case_id == case.case_id

    @pytest.mark.parametrize("content", [{"q": Planted()}, b"", b"\x80\x04damaged"], ids=["code", "nothing", "damaged"])
    def test_that_hold_anything_else_are_refused(self, content: Any) -> None:
        if isinstance(content, bytes):
            Path("x.pt").write_bytes(content)
        else:
            torch.save(content, "x.pt")
        said = refusal_of("inputs=file:x.pt")
        assert "x.pt' cannot be read: torch cannot read it: " in said
        assert not Path("planted").exists()
        assert list(Path("cache/tensors").iterdir()) == []
