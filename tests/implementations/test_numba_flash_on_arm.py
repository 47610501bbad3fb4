"""The micro-kernels of ``numba/flash`` for ARM processors, checked in the assembly that LLVM writes anywhere.

Their speed is unknown, but the inner loop multiplies and adds, and keeps everything in registers.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from llvmlite import binding, ir
from numba import types

TRIPLE = "aarch64-unknown-linux-gnu"


def part(name: str) -> Any:
    return importlib.import_module(f"attnbench.implementations.numba_flash.{name}")


LLVM, PRODUCT, TARGET = map(part, ("language.llvm", "product", "language.target"))


def assembly(columns: int, pairs: bool, add: bool, cpu: str, features: str) -> str:
    operand = types.int32 if pairs else types.float32
    number, word, at = LLVM.element_type(types.float32), LLVM.element_type(operand), ir.IntType(64)
    c, ab = number.as_pointer(), word.as_pointer()
    kinds = [c, at, at, ab, at, at, at, ab, at, at, at, *([c, at] if add else [])]
    module = ir.Module()
    module.triple = TRIPLE
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "kernel")
    builder = ir.IRBuilder(function.append_basic_block())
    PRODUCT.micro_kernel(builder, 6, columns, types.float32, operand, list(function.args))
    builder.ret_void()
    compiled = binding.parse_assembly(str(module))
    compiled.verify()
    machine = binding.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, features=features, opt=3)
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(compiled, passes)
    written: str = machine.emit_assembly(compiled)
    return written


@pytest.fixture(scope="module", autouse=True)
def arm() -> None:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    try:
        binding.Target.from_triple(TRIPLE)
    except RuntimeError as missing:
        pytest.skip(f"llvmlite: {missing}")


@pytest.mark.parametrize("add", [True, False], ids=["added", "set"])
@pytest.mark.parametrize(
    ("cpu", "features", "pairs", "instruction"),
    [
        ("neoverse-v1", "+neon,+bf16", False, "fmla"),
        ("neoverse-v1", "+neon,+bf16", True, "bfdot"),
        ("apple-m1", "+neon", False, "fmla"),
    ],
)
def test_the_inner_loop_is_24_multiply_adds_and_keeps_everything_in_registers(
    monkeypatch: pytest.MonkeyPatch, cpu: str, features: str, pairs: bool, instruction: str, add: bool
) -> None:
    target = TARGET.detect(frozenset(feature[1:] for feature in features.split(",")), "aarch64")
    for module in (LLVM, PRODUCT):
        monkeypatch.setattr(module, "TARGET", target)
    written = assembly(target.columns, pairs, add, cpu, features)
    inner = max(written.split("\n.L"), key=lambda block: len(re.findall(rf"\b{instruction}\b", block)))
    assert len(re.findall(rf"\b{instruction}\b", inner)) == 6 * target.columns
    assert "[sp" not in inner, "a register was put aside in memory"
