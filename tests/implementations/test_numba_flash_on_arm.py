"""The micro-kernels of ``numba/flash`` for ARM processors: LLVM compiles them anywhere, and what it wrote is read.

Whether they are fast there is not known. That the inner loop multiplies and adds and nothing waits in memory is.
"""

from __future__ import annotations

import importlib
import re
from types import SimpleNamespace
from typing import Any

import pytest
from llvmlite import binding, ir
from numba import types

TRIPLE = "aarch64-unknown-linux-gnu"


def part(name: str) -> Any:
    return importlib.import_module(f"attnbench.implementations.numba_flash.{name}")


LLVM, PRODUCT, TARGET = map(part, ("llvm", "product", "target"))


class PointersForArrays:
    """Of Numba's context, what an intrinsic of this package asks for: an array's data."""

    def make_array(self, kind: Any) -> Any:
        return lambda context, builder, pointer: SimpleNamespace(data=pointer)

    def get_dummy_value(self) -> ir.Value:
        return ir.Constant(ir.IntType(32), 0)


def assembly(tile: Any, arguments: list[Any], cpu: str, features: str) -> str:
    signature, write = tile._defn(None, *arguments)  # the Python function behind Numba's intrinsic
    module = ir.Module()
    module.triple = TRIPLE
    kinds = [
        ir.IntType(64) if kind == types.intp else LLVM.element_type(kind.dtype).as_pointer() for kind in signature.args
    ]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "kernel")
    builder = ir.IRBuilder(function.append_basic_block())
    write(PointersForArrays(), builder, signature, list(function.args))
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
    words = types.Array(types.int32 if pairs else types.float32, 1, "C")
    number, at = types.Array(types.float32, 1, "C"), types.intp
    arguments = [number, at, at, words, at, at, at, words, at, at, at, number, at]
    written = assembly(PRODUCT.micro_kernel(6, target.columns, add=add), arguments, cpu, features)
    inner = max(written.split("\n.L"), key=lambda block: len(re.findall(rf"\b{instruction}\b", block)))
    assert len(re.findall(rf"\b{instruction}\b", inner)) == 6 * target.columns
    assert "[sp" not in inner, "a register was put aside in memory"
