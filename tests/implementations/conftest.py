"""Inputs for direct calls of implementations, and verdicts on their results."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from attnbench import Case, Implementation, Operands
from attnbench.cases.dropout import dropout_seed
from attnbench.cases.quantised import dequantised, quantised
from tests.conftest import REPOSITORY
from tests.implementations.definition import Answer, Inputs, attention_by_definition, requests_of, whole_bias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

# Largest error over the largest value of the answer. A few roundings for the wide types; for the narrow ones the
# weights are rounded, too.
ALLOWED = {"float64": 1e-14, "float32": 4e-6, "float16": 4e-3, "bfloat16": 3e-2, "float8_e4m3fn": 3e-2}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: with such small problems, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def implementation(module: str, name: str) -> Implementation:
    """Return a bundled implementation by its module and its name."""
    values = vars(importlib.import_module(f"attnbench.implementations.{module}")).values()
    return next(one for one in values if isinstance(one, Implementation) and one.declaration.name == name)


def compiled_for_hopper(module: str, jobs: Mapping[str, dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Compile jobs with a module of this folder, in a process that does not use Triton's interpreter.

    Returns:
        The module's result for each job, by the job's name.
    """
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
    command = [sys.executable, "-m", f"tests.implementations.{module}", str(folder / "jobs.json")]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder / "cache")
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(jobs, json.loads(done.stdout.splitlines()[-1]), strict=True))


@functools.cache
def inputs_of(case: Case) -> Inputs:
    """Return standard normal values, rounded to the case's dtype."""
    generator = np.random.default_rng(1)
    b, hq, hkv = case.batch, case.heads_q, case.heads_kv

    def normal(*shape: int) -> NDArray[np.float64]:
        return rounded(generator.standard_normal(shape), case.dtype)

    def stored(*shape: int) -> NDArray[np.float64]:
        values = normal(*shape)
        return values if case.kv_dtype is None else dequantised(values, case.kv_dtype).astype(np.float64)

    q, k = normal(b, hq, case.seqlen_q, case.head_dim), stored(b, hkv, case.seqlen_kv, case.head_dim)
    latent = case.kv_cache == "latent"
    return Inputs(
        q=q,
        k=k,
        v=k[..., : case.head_dim_v] if latent else stored(b, hkv, case.seqlen_kv, case.head_dim_v),
        dout=normal(b, hq, case.seqlen_q, case.head_dim_v),
        relative_bias=normal(hq, 32),
        sinks=normal(hq),
    )


def rounded(values: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """Round values to a dtype."""
    result: NDArray[np.float64] = torch.from_numpy(values).to(getattr(torch, dtype)).double().numpy()
    return result


@functools.cache
def answer_of(case: Case) -> Answer:
    """Return the answer for those inputs, computed once for all implementations."""
    inputs = inputs_of(case)
    if case.strides == "expanded_kv":
        inputs = Inputs(**{**vars(inputs), "k": first_head(inputs.k), "v": first_head(inputs.v)})
    return attention_by_definition(case, inputs)


def first_head(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Replace every head by the first one, (batch, heads, seqlen, dim)."""
    return np.repeat(x[:, :1], x.shape[1], axis=1)


def operands_of(case: Case, *, framework: str = "torch", layout: str = "bhsd") -> Operands:
    """Return the inputs as tensors of the case's dtype, in a layout, with the case's strides."""
    inputs = inputs_of(case)
    wide = "float64" if case.dtype == "float64" else "float32"
    placed: dict[str, Any] = {name: tensor(getattr(inputs, name), case.dtype) for name in ("q", "k", "v", "dout")}
    if case.kv_dtype is not None:
        for name in ("k", "v"):
            numbers, scale = quantised(getattr(inputs, name), case.kv_dtype)
            placed |= {
                name: tensor(numbers.astype(np.float64), case.kv_dtype),
                f"{name}_scale": torch.from_numpy(scale),
            }
    for name in ("q", "k", "v"):
        placed[name] = laid_out(placed[name], case.strides, expanded=name != "q")
    if layout == "bshd":
        placed = {name: value.transpose(1, 2).contiguous() for name, value in placed.items()}
    if case.kv_cache == "latent":
        placed["v"] = placed["k"][..., : case.head_dim_v]
    if case.kv_cache == "paged":
        placed |= pages(case, placed)
    if "relative_bias" in case.score_mods:
        placed["relative_bias"] = tensor(inputs.relative_bias, wide)
    if "sink" in case.score_mods:
        placed["sinks"] = tensor(inputs.sinks, wide)
    if case.dropout is not None:
        placed["dropout_seed"] = torch.tensor([dropout_seed(case, 0)])
    if case.bias_grad:
        placed["bias"] = tensor(whole_bias(case).astype(np.float64), case.dtype)
    if framework == "numpy":
        placed = {name: value.numpy() for name, value in placed.items()}
    return Operands(**placed)


def tensor(values: NDArray[np.float64], dtype: str) -> torch.Tensor:
    """Return a torch tensor with its own memory."""
    return torch.from_numpy(values.copy()).to(getattr(torch, dtype))


def laid_out(x: torch.Tensor, strides: str, *, expanded: bool) -> torch.Tensor:
    """Return equal values (batch, heads, seqlen, dim) with other strides; gaps in memory hold NaN."""
    batch, heads, seqlen, dim = x.shape
    if strides == "transposed":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if strides == "qkv_slice":
        return torch.full((batch, heads, seqlen, 3 * dim), torch.nan, dtype=x.dtype)[..., dim : 2 * dim].copy_(x)
    if strides == "sliced":
        return torch.full((batch, heads, 2 * seqlen, dim), torch.nan, dtype=x.dtype)[:, :, :seqlen].copy_(x)
    if strides == "expanded_kv" and expanded:
        return x[:, :1].clone().expand(x.shape)
    return x


def pages(case: Case, placed: dict[str, Any]) -> dict[str, Any]:
    """Return K and V in pages in reverse order, with NaN after the last key, and their page table.

    The first page is NaN and unused: short rows of the table are padded with it.
    """
    assert case.page_size is not None
    requests = case.requests and requests_of(case.requests)
    lengths = [keys for _, keys in requests] if requests else [case.seqlen_kv] * case.batch
    counts = [-(-length // case.page_size) for length in lengths]
    table = torch.zeros((len(lengths), max(counts)), dtype=torch.int32)
    result: dict[str, Any] = {"block_table": table}
    for name in ("k", "v"):
        tokens = placed[name].transpose(1, 2).flatten(0, 1).split(lengths)  # (seqlen_kv, heads_kv, dim) each
        filled = torch.full((sum(counts) + 1, case.page_size, *tokens[0].shape[1:]), torch.nan).to(tokens[0].dtype)
        page = len(filled)
        for row, (sequence, count) in enumerate(zip(tokens, counts, strict=True)):
            for number, part in enumerate(sequence.split(case.page_size)):
                page -= 1
                filled[page, : len(part)], table[row, number] = part, page
            assert number + 1 == count
        result[name] = filled
    return result


def results_of(one: Implementation, case: Case) -> dict[str, NDArray[np.float64]]:
    """Call an implementation as the harness does; return results by name, (batch, heads, seqlen, dim) in float64."""
    said = one.declaration
    operands = operands_of(case, framework=said.framework, layout=said.layout)
    by_autograd = case.needs_gradients and one.backward_hook is None
    if case.bias_grad and by_autograd:
        operands.bias.requires_grad_()
    plan = one.prepare_hook(case, operands) if one.prepare_hook else None
    arguments = [operands.q, operands.k, operands.v]
    if by_autograd:
        arguments = [x.detach().requires_grad_() for x in arguments]
    result = one.call(*arguments, case, plan) if one.takes_plan else one.call(*arguments, case)
    out, lse = result if said.returns_lse else (result, None)
    found: dict[str, Any] = {"out": out} if lse is None else {"out": out, "lse": lse}
    if by_autograd:
        leaves = [*arguments, operands.bias] if case.bias_grad else arguments
        found |= dict(zip(case.gradients, torch.autograd.grad(out, leaves, operands.dout), strict=True))
    elif case.needs_gradients:
        assert one.backward_hook is not None
        found |= dict(
            zip(case.gradients, one.backward_hook(operands.dout, *arguments, out, lse, case, plan), strict=True)
        )
    check_dtypes(case, found)
    if case.dropout is not None:
        assert one.kept_hook is not None
        found["kept"] = one.kept_hook(case, plan)
    return {name: as_array(value, said.layout) for name, value in found.items()}


def check_dtypes(case: Case, found: dict[str, Any]) -> None:
    """Check that outputs and gradients have the case's dtype, and an LSE float32 or wider."""
    for name, value in found.items():
        dtype = str(value.dtype).removeprefix("torch.")
        allowed = {"float32", "float64"} if name == "lse" and case.dtype != "float64" else {case.output_dtype}
        assert dtype in allowed, f"{name} is {dtype}"


def as_array(value: Any, layout: str) -> NDArray[np.float64]:
    """Convert to float64 with heads before tokens."""
    array = value.detach().double().numpy() if isinstance(value, torch.Tensor) else value.astype(np.float64)
    return array.swapaxes(1, 2) if layout == "bshd" and array.ndim == 4 else array


def disagreement(case: Case, found: dict[str, NDArray[np.float64]], answer: Any) -> str | None:
    """Return the disagreement as a sentence, or ``None``."""
    for name, got in found.items():
        wanted = getattr(answer, name)
        if got.shape != wanted.shape:
            return f"{name} has shape {got.shape}, not {wanted.shape}"
        if not np.array_equal(np.isfinite(got), np.isfinite(wanted)):
            return (
                f"{name} is not finite in {(~np.isfinite(got)).sum()} places, {(~np.isfinite(wanted)).sum()} are right"
            )
        finite = np.isfinite(wanted)
        error = np.abs(got[finite] - wanted[finite]).max(initial=0.0) / np.abs(wanted[finite]).max(initial=1.0)
        if error > ALLOWED[case.dtype]:
            return f"{name} is wrong by {error:.1e} of its largest value; {ALLOWED[case.dtype]:.0e} is allowed"
    return None
