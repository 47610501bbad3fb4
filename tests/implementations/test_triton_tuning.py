"""The plan of ``triton/flash``: bounds of masks, tile sizes, and tensors that the copy engine accepts."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from attnbench import dense_mask, make_case, row_bounds

lists = importlib.import_module("attnbench.implementations.triton_flash.lists")
plan = importlib.import_module("attnbench.implementations.triton_flash.plan")
tuning = importlib.import_module("attnbench.implementations.triton_flash.tuning")
Config = tuning.Config


@pytest.fixture(autouse=True)
def _nothing_chosen() -> None:
    tuning._chosen.clear()


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": "causal", "seqlen_kv": 9, "alignment": "bottom_right"},
        {"mask": "causal", "seqlen_kv": 40, "alignment": "bottom_right"},
        {"mask": "sliding_window", "window_left": 3, "window_right": 2, "seqlen_kv": 11},
        {"mask": "prefix_lm", "prefix_len": 7},
        {"mask": "document", "document_lengths": (1, 9, 10), "document_causal": True},
        {"mask": "key_padding", "kv_lengths": (13,)},
        {"mask": "key_padding", "kv_lengths": (0,)},
    ],
)
def test_a_key_is_seen_by_one_run_of_queries(fields: dict[str, Any]) -> None:
    case = make_case(seqlen_q=20, **fields)
    first, beyond = plan.column_bounds(*row_bounds(case, 0), case.seqlen_kv)
    rows = np.arange(case.seqlen_q)[:, None]
    assert np.array_equal((first <= rows) & (rows < beyond), dense_mask(case)[0, 0])


def test_bounds_that_move_backwards_are_no_such_mask() -> None:
    with pytest.raises(ValueError, match="move forwards"):
        plan.column_bounds(np.array([0, 2, 1]), np.array([3, 3, 3]), 3)


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": "tree", "tree_parents": (-1, 0, 0, 1, 1, -1, 5), "seqlen_kv": 70, "alignment": "bottom_right"},
        {"mask": "causal & block_sparse", "mask_block_size": 8, "mask_blocks": "random:30%:1", "seqlen_kv": 70},
        {"mask": "block_sparse & key_padding", "batch": 3, "mask_block_size": 16, "kv_lengths": (0, 5, 33)},
    ],
)
def test_lists_name_each_block_that_is_seen_and_no_other(fields: dict[str, Any]) -> None:
    case = make_case(**{"seqlen_q": 50, **fields})
    mask = np.broadcast_to(dense_mask(case)[:, 0], (case.batch, case.seqlen_q, case.seqlen_kv))
    tiles, blocks = -(-case.seqlen_q // 16), -(-case.seqlen_kv // 8)
    whole = np.pad(mask, ((0, 0), (0, 16 * tiles - case.seqlen_q), (0, 8 * blocks - case.seqlen_kv)))
    made = lists.block_lists(case, 16, 8)
    for by_query, (starts, entries) in ((True, made.of_queries), (False, made.of_keys)):
        written, visits = np.zeros_like(whole), 0
        for owner, (begin, end) in enumerate(itertools.pairwise(starts.tolist())):
            for first, pattern in entries[begin:end].tolist():
                assert made.patterns[pattern].any()
                b, own = divmod(owner, tiles if by_query else blocks)
                row, column = (16 * own, first) if by_query else (first, 8 * own)
                written[b, row : row + 16, column : column + 8] |= made.patterns[pattern].astype(bool)
                visits += 1
        assert np.array_equal(written, whole)
        assert visits == whole.reshape(case.batch, tiles, 16, blocks, 8).any((2, 4)).sum()


@pytest.mark.parametrize("element_bytes", [1, 2, 4])
@pytest.mark.parametrize(("kernel", "width"), list(tuning.TABLE))
def test_every_candidate_fits_into_shared_memory(kernel: str, width: int, element_bytes: int) -> None:
    found = tuning.candidates(kernel, width, width, element_bytes)
    assert found
    row = width * element_bytes
    assert all(tuning.shared_bytes(one, kernel, row, row, 0) <= tuning.SHARED_BYTES for one in found)
    assert all(one.block_n >= 32 for one in found)


def test_a_decoding_tile_is_no_larger_than_its_rows_need() -> None:
    assert {one.block_m for one in tuning.candidates("partial", 128, 128, 2, rows=8)} == {16}
    assert {one.block_m for one in tuning.candidates("partial", 128, 128, 2, rows=17)} == {64}
    assert {one.block_m for one in tuning.candidates("partial", 128, 128, 2, rows=1000)} == {64}


SLOW, FAST, WRONG, BROKEN = Config(16, 16, 1, 1), Config(32, 16, 1, 1), Config(64, 16, 1, 1), Config(128, 16, 1, 1)
LAZY = Config(256, 16, 1, 1)


class Kernel:
    """A fake kernel: one configuration is wrong, one writes half of its output, one raises; each has its own time."""

    def __init__(self, *, all_broken: bool = False) -> None:
        self.all_broken = all_broken
        self.ran: list[Any] = []
        self.out = torch.empty(4)

    def run(self, config: Any) -> torch.Tensor:
        self.ran.append(config)
        if config == BROKEN or self.all_broken:
            raise RuntimeError("out of resource: shared memory\nand more")
        self.out[:2] = 3.0 if config == WRONG else 1.0
        if config != LAZY:
            self.out[2:] = 1.0
        return self.out

    def time_ms(self, call: Any) -> float:
        call()
        return {SLOW: 2.0, FAST: 1.0, WRONG: 0.1, LAZY: 0.1}[self.ran[-1]]


def test_the_fastest_candidate_that_runs_and_is_not_wrong_is_chosen() -> None:
    kernel = Kernel()
    assert tuning.choose("kind", [SLOW, BROKEN, WRONG, LAZY, FAST], kernel.run, kernel.time_ms) == FAST


def test_a_choice_is_made_once_for_a_kind_of_case() -> None:
    kernel = Kernel()
    tuning.choose("kind", [SLOW, FAST], kernel.run, kernel.time_ms)
    kernel.ran.clear()
    assert tuning.choose("kind", [SLOW, FAST], kernel.run, kernel.time_ms) == FAST
    assert not kernel.ran
    assert tuning.choose("another", [SLOW], kernel.run, kernel.time_ms) == SLOW


def test_a_device_on_which_nothing_runs_gives_the_compilers_reason() -> None:
    kernel = Kernel(all_broken=True)
    with pytest.raises(tuning.NothingRunsError, match="16x16 warps=1 stages=1: RuntimeError: out of resource"):
        tuning.choose("kind", [SLOW], kernel.run, kernel.time_ms)


def test_a_small_problem_takes_the_first_that_runs() -> None:
    kernel = Kernel()
    assert tuning.first_that_runs([BROKEN, SLOW, FAST], kernel.run) == SLOW
    assert kernel.ran == [BROKEN, SLOW]
    with pytest.raises(tuning.NothingRunsError, match="out of resource"):
        tuning.first_that_runs([BROKEN], kernel.run)


def test_rows_that_see_nothing_do_not_make_a_candidate_wrong() -> None:
    one = torch.tensor([1.0, -torch.inf])
    assert tuning.agrees(one, one + 0.01)
    assert not tuning.agrees(one, torch.tensor([1.0, 0.0]))


def test_what_hoppers_copy_engine_takes() -> None:
    whole = torch.empty(2, 3, 40, 64, dtype=torch.float16)
    assert plan.fits_descriptor(whole)
    assert plan.fits_descriptor(whole.transpose(1, 2)), "any order of the outer axes"
    assert not plan.fits_descriptor(whole[..., 1:]), "an address between multiples of 16 bytes"
    assert not plan.fits_descriptor(whole[..., :1].expand(2, 3, 40, 64)), "a last axis that is no run"
    assert not plan.fits_descriptor(whole[:, :1].expand(2, 3, 40, 64)), "a stride of 0"
    assert not plan.fits_descriptor(torch.empty(2, 3, 40, 20, dtype=torch.float16)), "rows of 40 bytes"


def test_decoding_is_few_queries_and_many_keys_without_gradients() -> None:
    few = {"heads_q": 8, "heads_kv": 1, "seqlen_q": 1, "seqlen_kv": 4096}
    assert plan.is_decoding(make_case(**few))
    assert not plan.is_decoding(make_case(**few, mode="backward"))
    assert not plan.is_decoding(make_case(**{**few, "seqlen_q": 512}))
    assert not plan.is_decoding(make_case(**{**few, "seqlen_kv": 100}))
