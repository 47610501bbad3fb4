"""Parts of ``numba/flash``. That all of it agrees with the definition is for test_agreement.py and conformance."""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from attnbench import Case, dense_mask, make_case
from tests.implementations.conftest import answer_of, disagreement, implementation, operands_of, results_of


def part(name: str) -> Any:
    return importlib.import_module(f"attnbench.implementations.numba_flash.{name}")


SIMD, PRODUCT, STREAMING, TILES, SOFTMAX, TARGET, FORWARD = map(
    part, ("language.simd", "product", "streaming", "tiles", "softmax", "language.target", "forward")
)
ARGUMENTS = part("arguments")
RNG = np.random.default_rng(0)


def called(function: Any, *arguments: Any) -> None:
    """Call what only compiled code can, with arrays for pointers; what it returns is lost."""
    caller(function, tuple(isinstance(value, np.ndarray) for value in arguments))(*arguments)


@functools.cache
def caller(function: Any, arrays: tuple[bool, ...]) -> Any:
    names = [f"a{i}" for i in range(len(arrays))]
    given = [f"pointer({n}.ctypes.data, {n}.dtype.type)" if a else n for n, a in zip(names, arrays, strict=True)]
    space: dict[str, Any] = {"pointer": ARGUMENTS.pointer, "function": function}
    exec(f"def call({', '.join(names)}): function({', '.join(given)})", space)  # noqa: S102  # Numba takes no *arguments
    return numba.njit(**part("language.compiling").OPTIONS)(space["call"])


@numba.njit
def powers(x: Any, result: Any, size: int) -> None:
    for i in range(0, size, SIMD.lanes_of(x)):
        SIMD.store(result, i, SIMD.exp(SIMD.load(x, i)))


@numba.njit
def packed(tile: Any, row_size: int, source: Any, width: int, start: int, count: int) -> None:
    TILES.pack(tile, 0, row_size, ARGUMENTS.unpaged(source, width, 1, width), start, count)


@numba.njit
def unpacked(target: Any, tile: Any, width: int, rows: int, spare: Any) -> None:
    TILES.unpack(ARGUMENTS.unpaged(target, width, 1, width), 0, tile, 0, width, rows, spare)


@numba.njit
def bounded(low: Any, high: Any, at: int, count: int, found: Any) -> None:
    found[0], found[1], found[2], found[3] = FORWARD.bounds_of_tile(low, high, at, count)


@numba.njit
def multiplied(
    c: Any, c_row: int, a: Any, a_row: int, a_step: int, b: Any, b_row: int, rows: int, vectors: int, inner: int
) -> None:
    PRODUCT.multiply(c, 0, c_row, a, 0, a_row, a_step, b, 0, b_row, rows, vectors, inner)


@numba.njit
def multiplied_and_added(
    c: Any, c_row: int, a: Any, a_row: int, a_step: int, b: Any, b_row: int, rows: int, vectors: int, inner: int,
    factor: Any,
) -> None:  # fmt: skip
    PRODUCT.multiply_add(c, 0, c_row, a, 0, a_row, a_step, b, 0, b_row, rows, vectors, inner, factor, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_within_few_units_in_the_last_place(dtype: Any) -> None:
    lowest = np.log(np.finfo(dtype).tiny)
    x = np.concatenate([np.linspace(lowest + 1, 20, 4096), -np.geomspace(1e-8, 1, 1024)]).astype(dtype)
    result = np.empty_like(x)
    called(powers, x, result, x.size)
    right = np.exp(x.astype(np.longdouble))
    assert np.all(np.abs(result - right) / right < (2 + np.abs(x)) * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_of_what_is_hidden_is_zero_and_of_nan_is_nan(dtype: Any) -> None:
    x = np.array([-np.inf, np.nan, -1e30, 0, -np.inf, -np.inf, 0, -1e4] * 2, dtype)
    result = np.empty_like(x)
    called(powers, x, result, x.size)
    np.testing.assert_array_equal(result, [0, np.nan, 0, 1, 0, 0, 1, 0] * 2)


@pytest.mark.parametrize("vectors", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 11, 12, 13])
def test_a_product_covers_all_rows_and_columns_and_nothing_else(rows: int, vectors: int) -> None:
    """Whatever is left over when tiles of six rows and some registers have been laid."""
    columns, inner, room = vectors * TARGET.TARGET.lanes(32), 7, 3
    a, b = RNG.integers(-4, 5, (rows, inner)), RNG.integers(-4, 5, (inner, columns))  # sums are exact
    c = np.full((rows + room, columns), np.nan, np.float32)
    wide, narrow = a.astype(np.float32), b.astype(np.float32)
    called(multiplied, c, columns, wide, inner, 1, narrow, columns, rows, vectors, inner)
    np.testing.assert_array_equal(c[:rows], a @ b)
    assert np.isnan(c[rows:]).all()

    factor = RNG.integers(1, 3, columns).astype(np.float32)
    before = c[:rows].copy()
    transposed = np.ascontiguousarray(wide.T)
    called(multiplied_and_added, c, columns, transposed, 1, rows, narrow, columns, rows, vectors, inner, factor)
    np.testing.assert_array_equal(c[:rows], before * factor + a @ b)
    assert np.isnan(c[rows:]).all()


@pytest.mark.parametrize("vectors", [1, 3, 4, 13])
@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_products_with_rows_that_are_read_in_order_cover_all_of_them(rows: int, vectors: int) -> None:
    """One row is taken alone, then three at a time, then what is left; and likewise registers of columns."""
    lanes, room = TARGET.TARGET.lanes(32), 2
    keys, width = 3 * lanes, vectors * lanes
    a, b = RNG.integers(-4, 5, (rows, width)), RNG.integers(-4, 5, (keys, width))  # sums are exact
    left, right = a.astype(np.float32), b.astype(np.float32)
    s = np.full((rows + room, keys), np.nan, np.float32)
    called(
        STREAMING.multiply_rows, s, keys, 0, left, width, right, 0, width, rows, 3, vectors,
        np.array([0.5], np.float32), np.empty(STREAMING.TOGETHER * lanes * lanes, np.float32),
    )  # fmt: skip
    np.testing.assert_array_equal(s[:rows], a @ b.T / 2)
    assert np.isnan(s[rows:]).all()

    c = np.ones((rows + room, width), np.float32)
    p = RNG.integers(-4, 5, (rows, keys)).astype(np.float32)
    called(STREAMING.add_sums, c, width, p, 0, keys, right, 0, width, rows, vectors, keys)
    np.testing.assert_array_equal(c[:rows], 1 + p @ b)
    assert (c[rows:] == 1).all()


def test_bfloat16_is_rounded_to_nearest_even_and_nan_stays_nan() -> None:
    bits = RNG.integers(0, 2**32, 4096, np.uint32)
    bits[:4] = [0x3F808000, 0x3F818000, 0x7FC00001, 0xFF800000]  # two ties, a NaN, -inf
    numbers = bits.view(np.float32)
    numbers = numbers[(np.abs(numbers) > 1e-37) | ~np.isfinite(numbers)]  # the instruction makes denormals zero
    numbers = numbers[: numbers.size // 16 * 16].reshape(-1, 16)
    found = np.zeros(numbers.shape, np.uint16)
    lanes = TARGET.TARGET.lanes(32)
    called(unpacked, found, numbers, 16, len(numbers), np.zeros(lanes, np.uint16))
    right = torch.from_numpy(numbers).to(torch.bfloat16)
    np.testing.assert_array_equal(torch.from_numpy(found.view(np.int16)).view(torch.bfloat16).float(), right.float())


def test_a_tile_is_padded_with_zeros_whatever_lay_there_before() -> None:
    """Padding meets weights of zero, and zero times what was left in memory may be NaN."""
    source = np.arange(15, dtype=np.float32).reshape(3, 5)
    tile = np.full(3 * 16, np.nan, np.float32)
    called(packed, tile, 16, source, 5, 1, 2)
    np.testing.assert_array_equal(tile[:32].reshape(2, 16)[:, :5], source[1:])
    np.testing.assert_array_equal(tile[:32].reshape(2, 16)[:, 5:], 0)


@pytest.mark.parametrize("softcap", [1.0, 50.0])
def test_the_cap_is_a_tangent_near_zero_as_well_as_far_from_it(softcap: float) -> None:
    s = np.concatenate([np.geomspace(1e-7, 30, 32), -np.geomspace(1e-7, 30, 32)]).astype(np.float32)
    found = s.copy()
    called(SOFTMAX.cap, found, 1, 64 // TARGET.TARGET.lanes(32), 0.5, softcap)
    np.testing.assert_allclose(found, softcap * np.tanh(s.astype(np.float64) / 2), rtol=5e-7)


def test_bounds_of_a_tile_leave_rows_out_that_see_nothing() -> None:
    low, high = np.array([7, 3, 0, 5, 9], np.int32), np.array([9, 8, 0, 5, 9], np.int32)

    def bounds(low: Any, high: Any, at: int, count: int) -> tuple[int, ...]:
        found = np.zeros(4, np.int64)
        called(bounded, low, high, at, count, found)
        return tuple(found.tolist())

    assert bounds(low, high, 0, 2) == (3, 9, 7, 8)  # any of the rows sees 3 to 9, and all of them see 7
    assert bounds(low, high, 0, 3)[:2] == (3, 9)
    first, beyond, *_ = bounds(low, high, 2, 3)
    assert first >= beyond


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("seqlen_q", [3, 200])
def test_the_number_of_threads_changes_no_bit_of_the_forward_pass(seqlen_q: int, dtype: str) -> None:
    case = make_case(heads_q=6, heads_kv=2, seqlen_q=seqlen_q, seqlen_kv=1200, dtype=dtype, mask="key_padding")
    module, operands = importlib.import_module("attnbench.implementations.numba_flash"), operands_of(case)
    plan = module.Plan(case, operands)
    found = []
    for threads in (1, 2):
        plan.forward.threads = threads
        out, lse = module.flash(operands.q, operands.k, operands.v, case, plan)
        found.append((out.view(torch.int16 if dtype == "bfloat16" else torch.int32), lse))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_few_heads_are_cut_into_parts_so_that_all_threads_have_work() -> None:
    parts_of = part("backward").parts_of
    assert parts_of(16, 40, 4) == 1
    assert parts_of(4, 40, 4) == 1  # one for each
    assert parts_of(1, 40, 4) == 16
    assert parts_of(3, 2, 4) == 2  # no more than there is


def test_gradients_of_one_head_cut_into_parts_agree() -> None:
    case = make_case(heads_q=3, heads_kv=1, seqlen_q=300, mode="backward", mask="causal", head_dim=24)
    found = results_of(implementation("numba_flash", "numba/flash"), case)
    assert disagreement(case, found, answer_of(case)) is None


@pytest.mark.parametrize(
    ("features", "machine", "name"),
    [
        ({"avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bf16"}, "x86_64", "AVX-512 BF16"),
        ({"avx2", "fma", "avx512f", "avx512vl", "avx512dq"}, "x86_64", "AVX-512"),
        ({"avx2", "fma"}, "x86_64", "AVX2"),
        ({"sse2"}, "x86_64", "128-bit vectors"),
        ({"neon", "bf16"}, "aarch64", "NEON BF16"),
        ({"neon"}, "arm64", "NEON"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_target_follows_from_what_the_processor_offers(features: set[str], machine: str, name: str) -> None:
    target = TARGET.detect(frozenset(features), machine)
    assert target.name == name
    # 6 rows of accumulators, a row of operands and one spread number have to fit into the register file.
    assert 6 * target.columns + target.columns + 1 <= (16 if name in {"AVX2", "128-bit vectors"} else 32)


def test_a_name_means_one_code() -> None:
    """Kernels that several processes compiled meet in one that loads them; LLVM then takes equal symbols for equal."""
    package = "attnbench.implementations.numba_flash."
    codes: dict[tuple[str, str], set[Any]] = {}
    gc.unfreeze()  # what tests/conftest.py has frozen is none of the objects that can be got
    for one in (thing for thing in gc.get_objects() if issubclass(type(thing), Dispatcher)):
        function = one.py_func
        if (function.__module__ or "").startswith(package):
            held = tuple(cell.cell_contents for cell in function.__closure__ or ())
            codes.setdefault((function.__module__, function.__qualname__), set()).add((function.__code__, held))
    gc.freeze()
    assert ("softmax", "hide") in {(module.removeprefix(package), name) for module, name in codes}
    assert [name for name, found in codes.items() if len(found) > 1] == []


def test_each_dtype_is_kept_in_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba gives the files of one name numbers, and processes that compile at the same moment the same number."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    for dtype in ("float32", "bfloat16"):
        part("entry").kernel.__wrapped__("decode", dtype)
    assert len({file.name for file in tmp_path.rglob("*.nbi")}) == 2


def test_a_kernel_that_was_kept_is_loaded_and_computes_the_same(tmp_path: Path) -> None:
    """The second process finds the file: it compiles nothing, and nothing of the first one's addresses is in it."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", KEPT], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [one.split() for one in said] == [["0", "None"], ["1", "None"]]


AVX2 = "+64bit,+cmov,+cx8,+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt"
PROGRAM = """
import sys
from attnbench import Case, dense_mask, make_case
from tests.implementations.conftest import answer_of, disagreement, implementation, results_of
case = make_case(heads_q=4, heads_kv=2, seqlen_q=70, seqlen_kv=131, head_dim=24, head_dim_v=40, dtype="bfloat16",
                 mask="causal", alignment="bottom_right", score_mod="softcap")
found = results_of(implementation("numba_flash", "numba/flash"), case)
sys.exit(disagreement(case, found, answer_of(case)))
"""


KEPT = """
import numba.core.ccallback as callbacks
loaded, compile = [], callbacks.CFunc.compile
def counted(self):
    compile(self)
    loaded.append(self.cache_hits)
callbacks.CFunc.compile = counted
from attnbench import make_case
from tests.implementations.conftest import answer_of, disagreement, implementation, results_of
case = make_case(heads_q=2, seqlen_q=3, seqlen_kv=70, head_dim=16)
found = results_of(implementation("numba_flash", "numba/flash"), case)
print(sum(loaded), disagreement(case, found, answer_of(case)))
"""


@pytest.mark.skipif(TARGET.TARGET.register_bits < 256, reason="this processor has no AVX2")
def test_the_same_code_compiled_for_avx2_agrees() -> None:
    """Other registers, other tiles, no instruction for bfloat16 or for powers of two: the fallbacks of all of them."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def keys_read(case: Case) -> NDArray[np.bool_]:
    """Whether a row multiplies a key's value, though it may be with a weight of 0: (seqlen_q, seqlen_kv).

    A value that is NaN shows it, on whatever processor.
    """
    one, operands = implementation("numba_flash", "numba/flash"), operands_of(case)
    assert one.prepare_hook is not None
    plan = one.prepare_hook(case, operands)
    read = np.zeros((case.seqlen_q, case.seqlen_kv), np.bool_)
    for key in range(case.seqlen_kv):
        v = operands.v.clone()
        v[0, :, key] = torch.nan
        out, _ = one.call(operands.q, operands.k, v, case, plan)
        read[:, key] = out[0, 0].isnan().any(-1).numpy()
    return read


TREES = {"one": [-1], "chain": [-1, 0, 1, 2], "binary": [-1, 0, 0, 1, 1, 2, 2], "medusa": [-1, 0, 0, 0, 1, 1, 2, 4]}


@pytest.mark.parametrize("parents", TREES.values(), ids=TREES)
@pytest.mark.parametrize("mask", ["tree", "left_padding & tree", "sliding_window & tree"])
def test_keys_that_no_draft_sees_are_not_read(mask: str, parents: list[int]) -> None:
    case = make_case(
        mask=mask, heads_q=1, seqlen_q=len(parents), seqlen_kv=300, head_dim=16, alignment="bottom_right",
        tree_parents=parents, kv_starts=[131], window_left=40,
    )  # fmt: skip
    seen, read = dense_mask(case)[0, 0], keys_read(case)
    assert (read.any(0) == seen.any(0)).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": "sliding_window & document", "window_left": 20, "document_lengths": [130, 1, 169]},
        {"mask": "causal & left_padding", "kv_starts": [131]},
        {"mask": "causal & document", "document_lengths": [130, 1, 169]},
    ],
    ids=lambda fields: str(fields["mask"]),
)
def test_an_intersection_reads_hardly_more_than_its_tiles_see(fields: dict[str, Any]) -> None:
    """The least is what any of a tile's 64 rows sees; keys go in pairs, so that a tile may begin one before."""
    case = make_case(**{"heads_q": 1, "seqlen_q": 300, "head_dim": 16, **fields})
    seen, read = dense_mask(case)[0, 0], keys_read(case)
    tiles = [slice(start, start + 64) for start in range(0, 300, 64)]
    least = sum(int(seen[rows].any(0).sum()) for rows in tiles)
    assert least <= sum(int(read[rows].any(0).sum()) for rows in tiles) <= 1.02 * least


def seventh(given: Any) -> None:
    given[0] = 7


def test_a_numba_without_the_overridden_methods_compiles_in_its_own_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiling = part("language.compiling")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "OVERRIDDEN", ("_no_such_method",))
    monkeypatch.setattr(compiling, "_Part", None)
    monkeypatch.setattr(compiling, "_Kernel", None)
    number = ctypes.c_int64(0)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiling.kept(seventh))(ctypes.addressof(number))
    assert number.value == 7
