"""How everything here is compiled: Numba's decorators, typed, with one set of options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba.extending
from numba import njit
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])
Array = NDArray[Any]
"""Numba infers the types, for each dtype anew; annotations are for readers."""
Codegen = Callable[..., Any]

# Only contraction of a * b + c: anything more would let the compiler assume that there is no infinity and no NaN.
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}


def compiled(function: Function) -> Function:
    """A function that other compiled functions call."""
    dispatcher: Function = njit(**OPTIONS)(function)
    return dispatcher


def named(function: Function, name: str) -> Function:
    """Name one of several functions that are made by the same lines, before it is compiled.

    A name has to mean one code. Symbols in what is kept on disk are of qualified name, types and a number that counts
    functions in the process that compiled it; when kernels from several processes are loaded into one, LLVM takes the
    first of equal symbols for all of them.
    """
    function.__qualname__ = name
    return function


def kept(function: Callable[..., None], signature: Any) -> Callable[..., None]:
    """Compile a function with parallel loops for one signature, or load what an earlier process has compiled."""
    dispatcher: Callable[..., None] = njit(signature, parallel=True, cache=True, **OPTIONS)(function)
    return dispatcher


def intrinsic(function: Callable[..., Any]) -> Any:
    """A function that writes LLVM code, to be called by compiled functions; its own arguments are their types."""
    return numba.extending.intrinsic(function)


def chosen_by_types(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Overloads ``function`` in compiled code by what the decorated one returns for the types of the arguments."""
    decorate: Any = numba.extending.overload(function, jit_options=OPTIONS)
    return decorate
