"""Compiles variants of ``gluon/flash`` for compute capability 9.0 without a GPU: ``... JOBS`` prints a JSON list."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import triton

from tests.implementations.for_hopper import main, measured


def compiled(job: dict[str, Any]) -> dict[str, Any]:
    """Compile a variant; return facts on its assembly and the assembler's remarks."""
    launch = import_module("attnbench.implementations.gluon_flash.launch")
    dtype = getattr(torch, job.get("dtype", "bfloat16"))
    q = torch.empty(1, 32, 8192, job["head_dim"], dtype=dtype, device="meta")
    k = torch.empty(1, 8, 8192, job["head_dim"], dtype=dtype, device="meta")
    lse = torch.empty(q.shape[:3], device="meta")
    variant = launch.Variant(**job.get("variant", {}))
    binary = launch.launch(
        variant, q, k, k, torch.empty_like(q), lse, causal=job["causal"], offset=0, scale=0.1, compile_only=True
    )
    sass, said = assembled(binary)
    return {
        **measured(binary),
        "setmaxnreg": binary.asm["ptx"].count("setmaxnreg"),
        "serialized": "serialized" in said,
        "weights_beside_products": beside(sass),
    }


def assembled(binary: Any) -> tuple[str, str]:
    """Return the cubin as text, and the assembler's remarks on the PTX."""
    path = Path(import_module("triton.backends.nvidia.compiler").get_ptxas(90).path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.cubin").write_bytes(binary.asm["cubin"])
        (folder / "kernel.ptx").write_text(binary.asm["ptx"])
        disassembler = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
        sass = subprocess.run(
            [disassembler, "-c", folder / "kernel.cubin"], capture_output=True, text=True, check=True
        ).stdout
        said = subprocess.run(
            [path, "-v", "--gpu-name=sm_90a", folder / "kernel.ptx", "-o", os.devnull],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return sass, said.stdout + said.stderr


def beside(sass: str) -> int:
    """Return the number of exponentials between the waits for scores and for products with V; the fewest of a loop."""
    found = re.findall(r"DEPBAR\.LE gsb0, 0x1\b(.*?)DEPBAR\.LE gsb0, 0x0\b", sass, re.DOTALL)
    return min((between.count("MUFU.EX2") for between in found), default=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), compiled)
