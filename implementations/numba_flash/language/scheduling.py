"""Dynamic scheduling of tasks to threads, and atomic words for communication between threads.

Words are 64-bit integers in memory. A thread's writes before it changes a word are visible to every thread that reads
the word afterwards, and all threads see changes of several words in the same order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .compiling import Codegen, intrinsic
from .llvm import call


@intrinsic
def start(context: Any, kernel: Any, block: Any) -> tuple[Any, Codegen]:
    """Call the function at address ``kernel`` with the address ``block``."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def next_task(context: Any, counters: Any, index: Any) -> tuple[Any, Codegen]:
    """Return ``counters[index]``, and atomically increment it."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(counters, types.intp), codegen


@intrinsic
def added(context: Any, words: Any, index: Any, amount: Any) -> tuple[Any, Codegen]:
    """Atomically add to ``words[index]``, and return its old value."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return types.int64(words, types.intp, types.int64), codegen


@intrinsic
def seen(context: Any, words: Any, index: Any) -> tuple[Any, Codegen]:
    """Atomically load ``words[index]``."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return types.int64(words, types.intp), codegen


@intrinsic
def replaced(context: Any, words: Any, index: Any, old: Any, new: Any) -> tuple[Any, Codegen]:
    """Compare and swap: if ``words[index]`` is ``old``, set it to ``new``; return whether it was set."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        both = builder.cmpxchg(builder.gep(args[0], [args[1]]), args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(both, 1)

    return types.boolean(words, types.intp, types.int64, types.int64), codegen


@intrinsic
def pause(context: Any) -> tuple[Any, Codegen]:
    """Hint to the processor that this thread spins, if there is an instruction for it."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        machine = builder.module.triple.split("-")[0]
        if machine == "x86_64":
            call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif machine in {"aarch64", "arm64"}:
            call(builder, "llvm.aarch64.hint", ir.VoidType(), [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return types.void(), codegen
