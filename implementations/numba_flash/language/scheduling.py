"""A kernel on all threads, and tasks to threads: each takes the next one when it is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, prange, types

from .compiling import OPTIONS, Codegen, intrinsic


@intrinsic
def start(context: Any, kernel: Any, block: Any) -> tuple[Any, Codegen]:
    """Call the function at an address with an address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def next_task(context: Any, counters: Any, index: Any) -> tuple[Any, Codegen]:
    """The number in ``counters[index]``, which is raised by one for the next caller, whichever thread that is.

    What a thread wrote before its call is seen by every thread whose call comes later.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        place = builder.gep(args[0], [args[1]])
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(counters, types.intp), codegen


def launcher() -> Callable[[int, int, int], None]:
    """The one launcher of all kernels: (address of the kernel, address of its block, threads)."""

    def launch(kernel: int, block: int, threads: int) -> None:
        if threads == 1:
            start(kernel, block)
        else:
            for _ in prange(threads):
                start(kernel, block)

    signature = types.void(types.int64, types.int64, types.int64)
    dispatcher: Callable[[int, int, int], None] = njit(signature, parallel=True, cache=True, **OPTIONS)(launch)
    return dispatcher
