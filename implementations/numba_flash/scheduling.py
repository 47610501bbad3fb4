"""Tasks to threads: each thread takes the next one when it is free."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from .compiling import Array, Codegen, compiled, intrinsic
from .llvm import data_of


@compiled
def counters(count: int) -> Array:
    """As many, at zero.

    Not in the function with the parallel loop: what fills an array there becomes a parallel loop too, and Numba 0.68
    then hands the array on before it is filled.
    """
    return np.zeros(count, np.int64)


@intrinsic
def next_task(context: Any, counter: Any, index: Any) -> tuple[Any, Codegen]:
    """The number in ``counter[index]``, which is raised by one for the next caller, whichever thread that is.

    What a thread wrote before its call is seen by every thread whose call comes later.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        place = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(counter, types.intp), codegen
