"""The contents of a capture: counts of calls, shapes that load as a scenario, tensors, and totals."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attnbench
from attnbench import dense_mask
from attnbench.capturing.session import Session
from attnbench.cases.case import Case
from attnbench.cases.tensors.file import array_of
from attnbench.interception import AttentionCall
from attnbench.store.capture import Capture, CaptureError, read_capture
from attnbench.sweep.expand import expand
from attnbench.sweep.load import load_scenario

X = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))


def captured(folder: Path, compute: Callable[[], object], **options: Any) -> Capture:
    with attnbench.capture(folder / "out", **options) as found:
        compute()
    return found.capture


def cases(folder: Path) -> dict[str, Case]:
    """Return the scenario's cases by shape."""
    planned = expand(load_scenario(str(folder / "out/scenario.toml")), {})
    return {shape: one.case for one in planned for shape in one.tags}


def heads(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attend(*shape: int, seed: int = 0) -> None:
    x = heads(*shape, seed=seed)
    sdpa(x, x, x)


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True), 3)


def test_calls_are_counted_by_shape_and_mode_with_their_layers(tmp_path: Path) -> None:
    model = encoder()

    def train() -> None:
        for _ in range(2):
            model(X).sum().backward()
        with torch.no_grad():
            model(X)
        model(X[:, :4])

    found = captured(tmp_path, train)
    layers = tuple(f"layers.{n}.self_attn" for n in range(3))
    by_case = {cases(tmp_path)[call.shape].label(): (call.calls, call.layers, call.api) for call in found.calls}
    assert by_case == {
        "forward_backward b2 h4 s6 d8 float32": (6, layers, "sdpa"),
        "forward b2 h4 s6 d8 float32": (3, layers, "sdpa"),
        "forward b2 h4 s4 d8 float32": (3, layers, "sdpa"),
    }
    assert found.unmatched == ()
    assert [call.shape for call in found.calls] == ["call-1", "call-2", "call-3"]
    seconds = [call.seconds for call in found.calls]
    assert seconds == sorted(seconds, reverse=True)
    assert min(seconds) > 0
    assert found.attention_seconds == pytest.approx(sum(seconds))
    assert found.total_seconds > found.attention_seconds
    assert found.overhead_seconds > 0
    assert (found.device, found.threads) == ("cpu", torch.get_num_threads())


class Sleeps(torch.autograd.Function):
    """Does nothing; its backward pass takes half a second."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        time.sleep(0.5)
        return gradients[0]


def sleeps(x: torch.Tensor) -> torch.Tensor:
    """Return ``x``; the backward pass takes half a second."""
    same: torch.Tensor = Sleeps.apply(x)  # type: ignore[no-untyped-call]
    return same


@pytest.mark.parametrize("within", [True, False])
def test_of_a_backward_pass_what_attention_takes_is_a_calls_time(tmp_path: Path, within: bool) -> None:
    """Other work of the backward pass, before and after attention, is not counted."""
    q, k, v = (sleeps(heads(1, 2, 8, 4, seed=n).requires_grad_()) for n in range(3))
    session = Session(tmp_path, 0, "test")
    call = AttentionCall(
        q=q, k=k, v=v, scale=0.5, api="sdpa", given=(q, k, v),
        run=lambda q, k, v: sdpa(q, sleeps(k) if within else k, v),
    )  # fmt: skip
    with session.capturing():
        torch.autograd.backward(sleeps(session._answer(call)).sum())
    assert (session.write().attention_seconds >= 0.5) is within


def test_the_same_of_products_in_plain_torch(tmp_path: Path) -> None:
    q, k, v = (sleeps(heads(1, 2, 8, 4, seed=n).requires_grad_()) for n in range(3))
    found = captured(tmp_path, lambda: torch.autograd.backward(sleeps((q @ k.mT).softmax(-1) @ v).sum()))
    assert found.attention_seconds < 0.5


def test_lengths_of_generation_share_buckets(tmp_path: Path) -> None:
    def decode(lengths: range) -> None:
        for length in lengths:
            sdpa(heads(1, 2, 1, 8), heads(1, 2, length, 8), heads(1, 2, length, 8))

    found = captured(tmp_path, lambda: decode(range(100, 200)))
    assert sum(call.calls for call in found.calls) == 100
    ranges = sorted(call.seqlen_kv for call in found.calls)
    assert ranges == [(100, 120), (121, 145), (146, 175), (176, 199)]
    for call in found.calls:
        case = cases(tmp_path)[call.shape]
        assert (call.seqlen_q, case.seqlen_q) == ((1, 1), 1)
        assert case.seqlen_kv == sum(call.seqlen_kv) // 2  # each length occurs once, so the mean is in the middle
    text = (tmp_path / "out/scenario.toml").read_text()
    assert "# seqlen_kv is 100 to 120 in these calls; 110 is nearest to the mean of their work" in text


def test_a_few_lengths_stay_apart(tmp_path: Path) -> None:
    def four() -> None:
        for n in (8, 9, 10, 11):
            attend(1, 2, n, 8)

    found = captured(tmp_path, four)
    assert sorted(call.seqlen_q for call in found.calls) == [(8, 8), (9, 9), (10, 10), (11, 11)]


def test_tensors_are_kept_once_for_each_content(tmp_path: Path) -> None:
    q, k, v = (heads(1, 2, 8, 4, seed=n) for n in range(3))

    def three_times() -> None:
        for _ in range(2):
            sdpa(q, k, v)
        sdpa(q, k, 2 * v)
        sdpa(q, k, v, scale=1.0)

    assert not captured(tmp_path, three_times).unmatched
    assert not (tmp_path / "out/tensors").exists()
    captured(tmp_path, three_times, tensors="first", force=True)
    inputs = [case.inputs.removeprefix("file:") for case in cases(tmp_path).values()]
    assert len(inputs) == 2
    (file,) = (tmp_path / "out/tensors").iterdir()  # both have the same content
    for name, array in (("q", q), ("k", k), ("v", v)):
        assert torch.equal(torch.from_numpy(array_of(file, name)), array)


def test_each_of_several_calls_whose_tensors_are_kept_is_a_shape(tmp_path: Path) -> None:
    def calls() -> None:
        for n in range(5):
            attend(1, 2, 8, 4, seed=n)

    found = captured(tmp_path, calls, tensors=2)
    assert sorted(call.calls for call in found.calls) == [2, 3]  # calls are assigned to the two shapes in turns
    assert len({*(tmp_path / "out/tensors").iterdir()}) == len(cases(tmp_path)) == 2


def test_the_upstream_gradient_is_among_the_tensors(tmp_path: Path) -> None:
    q, k, v = (heads(1, 2, 8, 4, seed=n).requires_grad_() for n in range(3))
    dout = heads(1, 2, 8, 4, seed=9)
    captured(tmp_path, lambda: torch.autograd.backward(sdpa(q, k, v), dout), tensors="first")
    (file,) = (tmp_path / "out/tensors").iterdir()
    assert torch.equal(torch.from_numpy(array_of(file, "dout")), dout)
    (case,) = cases(tmp_path).values()
    assert case.mode == "forward_backward"


def test_masks_and_biases_that_no_kind_says_are_always_written(tmp_path: Path) -> None:
    mask = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    mask |= torch.eye(8).bool()
    bias = heads(1, 2, 8, 8)
    q = heads(2, 2, 8, 4)

    def both() -> None:
        sdpa(q, q, q, mask)
        sdpa(q, q, q, bias)
        sdpa(q, q, q, bias + 1)  # other numbers, the same work

    found = captured(tmp_path, both)
    assert sorted(call.calls for call in found.calls) == [1, 2]
    made = {case.mask: case for case in cases(tmp_path).values()}
    assert made["none"].score_mod == "bias"
    assert len([*(tmp_path / "out/tensors").iterdir()]) == 2
    assert (dense_mask(made["tensor"]) == mask.numpy()).all()


def test_what_is_no_case_is_counted_with_its_reason(tmp_path: Path) -> None:
    q = heads(1, 2, 8, 4)

    def strange() -> None:
        for _ in range(3):
            sdpa(q, q, q, heads(1, 2, 8, 8).fill_(torch.nan))
        (q @ q.mT).relu().softmax(-1) @ q

    found = captured(tmp_path, strange)
    assert found.calls == ()
    assert [(one.calls, one.reason) for one in found.unmatched] == [
        (3, "its mask holds NaN or +inf"),
        (1, "relu of scores is not followed"),
    ]
    assert not (tmp_path / "out/scenario.toml").exists()


def test_an_output_that_its_description_does_not_define_is_unmatched(tmp_path: Path) -> None:
    """A transformers module may do more than its arguments describe."""
    q = heads(1, 2, 8, 4)
    session = Session(tmp_path, 0, "test")
    call = AttentionCall(
        q=q, k=q, v=q, scale=0.5, api="transformers", given=(q, q, q), run=lambda q, k, v: sdpa(q, k, v, is_causal=True)
    )
    with session.capturing():
        session._answer(call)
        session._answer(call)
    (one,) = session.write().unmatched
    assert one.calls == 2
    assert "its output is not what its arguments say" in one.reason


def test_a_program_that_fails_is_captured_up_to_there(tmp_path: Path) -> None:
    def fail() -> None:
        attend(1, 2, 8, 4)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        captured(tmp_path, fail)
    assert read_capture(tmp_path / "out").calls[0].calls == 1


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(attnbench.UsageError, match="exists already; and it is no capture"):
        captured(tmp_path, lambda: None, force=True)
    (tmp_path / "out").rmdir()
    captured(tmp_path, lambda: attend(1, 2, 8, 4))
    with pytest.raises(attnbench.UsageError, match="--force replaces it"):
        captured(tmp_path, lambda: None)
    with pytest.raises(attnbench.UsageError, match="tensors = 'last' is neither"):
        captured(tmp_path, lambda: None, tensors="last", force=True)
    assert captured(tmp_path, lambda: None, force=True).calls == ()


def test_a_capture_reads_back_and_strangers_files_are_refused(tmp_path: Path) -> None:
    found = captured(tmp_path, lambda: attend(1, 2, 8, 4))
    file = tmp_path / "out/capture.json"
    assert read_capture(file) == read_capture(tmp_path / "out") == found
    good = json.loads(file.read_text())
    for name, value in (
        ("version", 2), ("threads", "2"), ("total_seconds", -1), ("total_seconds", float("nan")), ("more", 1),
        ("calls", [*good["calls"], *good["calls"]]), ("calls", [{**good["calls"][0], "seqlen_q": [9, 8]}]),
    ):  # fmt: skip
        file.write_text(json.dumps({**good, name: value}))
        with pytest.raises(CaptureError, match=r"capture\.json is no capture: "):
            read_capture(file)
    file.write_text(json.dumps({**good, "command": "a\x1b[2J"}))
    assert read_capture(file).command == "a\\x1b[2J"
    with pytest.raises(CaptureError, match="cannot be read: No such file"):
        read_capture(tmp_path)


def test_how_tensors_lie_in_memory_is_told(tmp_path: Path) -> None:
    rows, tokens_first = heads(1, 2, 8, 4), heads(1, 8, 2, 4).transpose(1, 2)
    (one,) = captured(tmp_path, lambda: sdpa(tokens_first, tokens_first, tokens_first)).calls
    assert one.memory == ("bshd",)
    assert "tokens lie before heads (bshd)" in (tmp_path / "out/scenario.toml").read_text()
    sliced = heads(1, 2, 16, 4)[:, :, :8]

    def mixed() -> None:
        sdpa(rows, rows, rows)
        sdpa(rows, tokens_first, sliced)

    (one,) = captured(tmp_path, mixed, force=True).calls
    assert one.memory == ("bhsd", "q bhsd, k bshd, v strided")
    assert "# in memory: bhsd; q bhsd, k bshd, v strided\n" in (tmp_path / "out/scenario.toml").read_text()


def test_what_ran_in_another_way_than_without_capture_is_noted(tmp_path: Path) -> None:
    model = encoder()
    assert any("fused path" in note for note in captured(tmp_path, lambda: model(X)).notes)
    dropping = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.25, batch_first=True)
    notes = captured(tmp_path, lambda: torch.compile(dropping, backend="eager")(X), force=True).notes
    assert any("compiled model ran uncompiled" in note for note in notes)
    assert "the model drops probabilities at random (0.25); no case does" in notes
    assert captured(tmp_path, lambda: attend(1, 2, 8, 4), force=True).notes == ()


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_tensors_without_values_do_not_end_the_program(tmp_path: Path) -> None:
    """Within ``vmap`` no value can be read; the program gets the same result as without capture."""
    q, mask = heads(3, 1, 2, 8, 4), torch.ones(8, 8).tril().bool()

    def batched() -> None:
        found.append(torch.vmap(lambda x: sdpa(x, x, x, mask))(q))

    found: list[torch.Tensor] = []
    batched()
    told = captured(tmp_path, batched).unmatched
    assert torch.equal(found[0], found[1])
    assert [one.calls for one in told] == [1]


def test_a_second_pass_back_and_one_that_never_comes(tmp_path: Path) -> None:
    """The first backward pass counts as the call's; a call without one is a forward call."""
    q = heads(1, 2, 8, 4).requires_grad_()

    def twice() -> None:
        loss = sdpa(q, q, q).sum()
        for _ in range(2):
            torch.autograd.grad(loss, q, retain_graph=True)
        sdpa(q, q, q)

    found = captured(tmp_path, twice)
    assert sorted((cases(tmp_path)[call.shape].mode, call.calls) for call in found.calls) == [
        ("forward", 1), ("forward_backward", 1)
    ]  # fmt: skip
    assert min(call.seconds for call in found.calls) > 0
