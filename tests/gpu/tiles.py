"""Part 3: times tile sizes of `triton/flash` against cuDNN, in the steps of docs/gpu.md; warm, by do_bench."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from attnbench import Case, Operands, make_case

Sizes = tuple[int, int, int, int]
"""block_m, block_n, warps, stages."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of the table, and the question that it answers."""

    name: str
    kernel: str
    predicts: str
    case: dict[str, Any]
    sizes: tuple[Sizes, ...]


_HEADS = {"heads_q": 32, "heads_kv": 8, "dtype": "bfloat16"}
_LONG = {**_HEADS, "seqlen_q": 8192, "head_dim": 128}
STEPS = (
    Step("decode 1 x 32k", "partial", "a fourth stage or wider tiles: 69 -> 75 % of the copy",
         {**_HEADS, "seqlen_q": 1, "seqlen_kv": 32768, "head_dim": 128},
         ((16, 64, 4, 3), (16, 64, 4, 4), (16, 128, 4, 2), (16, 128, 4, 3), (16, 128, 8, 3), (16, 32, 4, 5),
          (16, 64, 2, 4))),
    Step("forward 128 full", "forward", "64x64 with 4 warps and 3 stages stays first, within 3 %", _LONG,
         ((64, 64, 4, 3), (64, 64, 4, 4), (128, 64, 4, 3), (128, 64, 8, 3), (128, 128, 8, 2), (128, 128, 8, 3))),
    Step("forward 128 causal", "forward", "as full", {**_LONG, "mask": "causal"},
         ((64, 64, 4, 3), (64, 64, 4, 2), (128, 64, 8, 3), (128, 128, 8, 3))),
    Step("forward 64 full", "forward", "64x128 with 4 warps stays first", {**_LONG, "head_dim": 64},
         ((64, 128, 4, 3), (64, 128, 4, 2), (128, 64, 4, 4), (128, 128, 8, 3), (64, 64, 4, 4))),
    Step("backward 128 causal, dK and dV", "dk_dv", "64x64 stays first",
         {**_LONG, "mask": "causal", "mode": "backward"},
         ((64, 64, 4, 2), (64, 64, 4, 3), (64, 128, 8, 2), (64, 128, 8, 3), (32, 128, 4, 2))),
    Step("backward 128 causal, dQ", "dq", "128x64 with 8 warps stays first",
         {**_LONG, "mask": "causal", "mode": "backward"},
         ((128, 64, 8, 3), (128, 64, 8, 2), (64, 64, 4, 2), (64, 64, 4, 3), (128, 128, 8, 2))),
)  # fmt: skip


Variant = tuple[str, Callable[[], Callable[[], object]]]
"""The name of a variant, and a function that makes its call."""


def tiles(folder: Path, seconds: float) -> list[str]:
    """Time each step's sizes until the time is over; sizes that were timed before, or failed, are not tried again."""
    until = time.monotonic() + seconds
    path = folder / "tiles.json"
    told: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    lines: list[str] = []
    for step in STEPS:
        lines.append(f"{step.name}; predicted: {step.predicts}")
        for name, make_call in variants(step):
            key = f"{step.name}: {name}"
            if key not in told:
                if time.monotonic() > until:
                    return [*lines, "the time was over here"]
                told[key], broken = timed(make_call)
                path.write_text(json.dumps(told))
                if broken:
                    return [*lines, f"  {name:<28}{told[key]}", "CUDA's context is broken: start this part again"]
            lines.append(f"  {name:<28}{told[key]}")
    return lines


def timed(make_call: Callable[[], Callable[[], object]]) -> tuple[str, bool]:
    """Return the median time of a call, or why there is none, and whether CUDA is broken for all later calls."""
    try:
        return f"{median_ms(make_call()) * 1e3:9.1f} us", False
    except Exception as error:  # noqa: BLE001 - compilers raise many kinds, and the next variant may succeed
        return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}", is_broken()


def is_broken() -> bool:
    """Whether CUDA only reports an earlier fault."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def variants(step: Step) -> Iterator[Variant]:
    """Yield cuDNN, for decoding the programs per multiprocessor and the launch of the merge, and tile sizes."""
    case = make_case(**step.case)
    operands = functools.cache(lambda: operands_of(case))
    if not case.needs_gradients:
        yield "cuDNN", lambda: cudnn(case, operands())
    if case.seqlen_q == 1:
        for programs, ahead in itertools.product((1, 2, 3, 4), (False, True)):
            name = f"{programs} for each SM, merge {'ahead' if ahead else 'behind'}"
            sizes = (16, 64, 4, 4)
            yield name, functools.partial(call_of, "partial", case, operands, sizes, programs=programs, ahead=ahead)
    for sizes in step.sizes:
        name = f"{sizes[0]}x{sizes[1]} warps={sizes[2]} stages={sizes[3]}"
        yield name, functools.partial(call_of, step.kernel, case, operands, sizes)


def call_of(
    kernel: str,
    case: Case,
    make_operands: Callable[[], Operands],
    sizes: Sizes,
    *,
    programs: int = 2,
    ahead: bool = True,
) -> Callable[[], object]:
    """Return a call of `triton/flash` whose kernel has these sizes; other kernels keep the sizes they begin with."""
    package = "attnbench.implementations.triton_flash"
    plan_module, launch = import_module(f"{package}.plan"), import_module(f"{package}.launch")
    tuning = import_module(f"{package}.tuning")
    seeds = {
        name: tuning.TABLE[name, 64 if case.head_dim <= 64 else 128][0]
        for name in ("forward", "dk_dv", "dq", "partial")
    }
    operands = make_operands()
    plan = plan_module.Plan(case, operands, configs={**seeds, kernel: tuning.Config(*sizes)})
    plan.programs_each, plan.overlaps_merge = programs, ahead
    q, k, v = operands.q, operands.k, operands.v
    if plan.decodes:
        return lambda: launch.decode(plan, q, k, v)
    if not case.needs_gradients:
        return lambda: launch.forward(plan, q, k, v)
    out, lse = launch.forward(plan, q, k, v)
    return lambda: launch.backward(plan, operands.dout, q, k, v, out, lse)


def operands_of(case: Case) -> Operands:
    """Return operands with standard normal values on the GPU."""

    def normal(heads: int, seqlen: int) -> torch.Tensor:
        shape = (case.batch, heads, seqlen, case.head_dim)
        return torch.randn(shape, dtype=getattr(torch, case.dtype), device="cuda")

    q, dout = normal(case.heads_q, case.seqlen_q), normal(case.heads_q, case.seqlen_q)
    k, v = normal(case.heads_kv, case.seqlen_kv), normal(case.heads_kv, case.seqlen_kv)
    return Operands(q=q, k=k, v=v, dout=dout)


def cudnn(case: Case, operands: Operands) -> Callable[[], object]:
    """Return a call of cuDNN, to compare with."""

    def call() -> torch.Tensor:
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(
                operands.q, operands.k, operands.v, is_causal=case.mask == "causal", enable_gqa=True
            )

    return call


def median_ms(call: Callable[[], object]) -> float:
    """Return the median time of a warm call within a graph: a single short call takes less than its launch."""
    from triton.testing import do_bench_cudagraph

    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]  # torch does not say
        return float(do_bench_cudagraph(call, rep=40, return_mode="median"))
