"""Compiles ``triton/flash`` for compute capability 9.0, on a machine without a GPU: ``... JOBS`` prints a JSON list.

Triton's compiler needs a target, not a device. Launches become compilations here, of tensors that have no memory.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from attnbench import Case, Operands, make_case

HOPPER = types.SimpleNamespace(
    get_current_target=lambda: GPUTarget("cuda", 90, 32),
    get_current_device=lambda: 0,
    get_current_stream=lambda device=0: 0,
)


def operands_of(case: Case) -> Operands:
    """Return tensors without memory."""

    def empty(heads: int, seqlen: int, dim: int) -> torch.Tensor:
        return torch.empty(case.batch, heads, seqlen, dim, dtype=getattr(torch, case.dtype), device="meta")

    pages: dict[str, Any] = {}
    q, dout = empty(case.heads_q, case.seqlen_q, case.head_dim), empty(case.heads_q, case.seqlen_q, case.head_dim_v)
    k, v = empty(case.heads_kv, case.seqlen_kv, case.head_dim), empty(case.heads_kv, case.seqlen_kv, case.head_dim_v)
    if case.kv_cache == "paged":
        assert case.page_size is not None
        each = -(-case.seqlen_kv // case.page_size)
        k, v = (x.new_empty(case.batch * each, case.page_size, case.heads_kv, x.shape[-1]) for x in (k, v))
        pages["block_table"] = torch.empty(case.batch, each, dtype=torch.int32, device="meta")
    sinks = torch.empty(case.heads_q, device="meta") if "sink" in case.score_mods else None
    table = torch.zeros(case.heads_q, 32) if "relative_bias" in case.score_mods else None
    return Operands(q=q, k=k, v=v, dout=dout, sinks=sinks, relative_bias=table, **pages)


def compiled(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Compile the kernels of a case; count important instructions, registers, local and shared memory."""
    plan = importlib.import_module("attnbench.implementations.triton_flash.plan")
    launch = importlib.import_module("attnbench.implementations.triton_flash.launch")
    tuning = importlib.import_module("attnbench.implementations.triton_flash.tuning")
    found: list[dict[str, Any]] = []

    def compile_only(self: Any, grid: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> None:
            binary = self.run(*arguments, grid=grid, warmup=True, **named)
            found.append({"kernel": self.fn.__name__, **measured(binary)})

        return run

    JITFunction.__getitem__ = compile_only
    case = make_case(**job["case"])
    operands = operands_of(case)
    one = plan.Plan(case, operands, tma=job["tma"])
    one.used = {kernel: one.candidates(kernel)[0] for kernel in ("forward", "dk_dv", "dq", "partial")}
    one.used |= {kernel: tuning.Config(*sizes) for kernel, sizes in job.get("configs", {}).items()}
    out, lse = (launch.decode if one.decodes else launch.forward)(one, operands.q, operands.k, operands.v)
    if case.needs_gradients:
        launch.backward(one, operands.dout, operands.q, operands.k, operands.v, out, lse)
    return found


def measured(binary: Any) -> dict[str, Any]:
    """Return counts from the assembly and from cuobjdump."""
    ptx = binary.asm["ptx"]
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True)
    usage = {name: int(size) for name, size in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", said.stdout)}
    return {
        "wgmma": ptx.count("wgmma.mma_async"),
        "tma": ptx.count("cp.async.bulk.tensor"),
        "shared_stores": len(re.findall(r"\bst\.shared", ptx)),
        "waits": ptx.count("griddepcontrol"),
        "shared_bytes": binary.metadata.shared,
        "registers": usage["REG"],
        "spilled_bytes": usage["STACK"] + usage["LOCAL"],
    }


def main(jobs: Path, compile_job: Callable[[dict[str, Any]], Any]) -> None:
    """Compile each job of a JSON file as if the GPU were a Hopper, and print the results as JSON."""
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    triton.runtime.driver.set_active(HOPPER)
    hopper: Any = types.SimpleNamespace(multi_processor_count=132, major=9)
    torch.cuda.get_device_properties = lambda device=None: hopper
    print(json.dumps([compile_job(job) for job in json.loads(jobs.read_text())]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), compiled)
