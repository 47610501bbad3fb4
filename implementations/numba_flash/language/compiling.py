"""Compilation of the kernels: Numba's decorators, typed, with one set of options.

Numba optimises each function and generates machine code for it, again in each function that calls it, and four more
times for a parallel loop. Here a kernel and all that it calls are one module that is optimised once: functions that
only compiled code calls stay LLVM IR until then. This overrides private methods of Numba; a version that lacks one of
them compiles the same kernels in its own way, which takes three to five times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numba.extending
from numba import cfunc, njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

Function = TypeVar("Function", bound=Callable[..., Any])
Pointer = Any
"""A pointer to numbers of one type, indexed like a list. Numba infers types per dtype: annotations are for readers."""
Number = Any
"""A type of numbers: compiled code may take types as arguments, and is specialised by them at compile time."""
Codegen = Callable[..., Any]

OVERRIDDEN = ("_optimize_functions", "_optimize_final_module", "_finalize_final_module", "_finalize_dynamic_globals")
"""Methods of Numba's code libraries that are replaced or called below; all are private, as of Numba 0.61 to 0.68."""

# Only contraction of a * b + c: other flags would let the compiler assume that there is no infinity and no NaN.
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}


def compiled(function: Function) -> Function:
    """Decorate a function for compiled callers only. It has no Python entry point: called from Python, it crashes."""
    dispatcher: Function = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)
    return dispatcher


def named(function: Function, name: str) -> Function:
    """Give a function that a factory creates in several versions a unique name, before it is compiled.

    A name must identify the code. Symbols in the cache on disk consist of qualified name, types and a number that
    counts functions in the compiling process; if kernels from several processes are loaded into one, LLVM resolves
    equal symbols to the first of them.
    """
    function.__qualname__ = name
    return function


def kept(function: Callable[..., None], *more: Any) -> int:
    """Compile a function of a pointer to 64-bit integers, or load it from the cache on disk.

    Args:
        function: the function.
        more: Numba's types of its arguments after the pointer.

    Returns:
        The address of the compiled function.
    """
    with _in_one_piece(function.__qualname__):
        return cfunc(types.void(types.CPointer(types.int64), *more), cache=True, **OPTIONS)(function).address


class _Part(JITCodeLibrary):
    """A function of a kernel: linked into it as IR, without optimisation or code generation of its own."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout  # noqa: SLF001  # as Numba's own does

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, as there is no machine code."""
        return 0


class _Kernel(JITCodeLibrary):
    """A kernel with all that it calls, optimised once."""


@contextmanager
def _in_one_piece(kernel: str) -> Iterator[None]:
    """Compile everything within the block as parts of a kernel, except the function with this qualified name."""
    codegen: Any = cpu_target.target_context.codegen()
    if not (
        all(hasattr(JITCodeLibrary, name) for name in OVERRIDDEN)
        and all(hasattr(codegen, name) for name in ("create_library", "set_env", "_data_layout"))
    ):
        yield
        return

    def create_library(name: str, **_: Any) -> JITCodeLibrary:
        return (_Kernel if name == kernel else _Part)(codegen, name)

    def set_env(name: str, environment: Any) -> None:
        """Do nothing: only Python objects need an environment, and there are none."""

    with global_compiler_lock:
        codegen.create_library, codegen.set_env = create_library, set_env
        try:
            yield
        finally:
            del codegen.create_library, codegen.set_env


def intrinsic(function: Callable[..., Any]) -> Any:
    """Decorate a function that emits LLVM IR for calls from compiled code; its arguments are the call's types."""
    return numba.extending.intrinsic(function)


def chosen_by_types(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Overload ``function`` in compiled code: the decorated function returns the implementation for argument types."""
    decorate: Any = numba.extending.overload(function, jit_options=OPTIONS)
    return decorate
