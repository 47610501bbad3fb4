"""How everything here is compiled: Numba's decorators, typed, with one set of options.

Numba optimises each function and makes machine code of it, again in each function that calls it, and four times more
where there is a parallel loop. Here a kernel and all that it calls are one module that is optimised once: what is only
called by compiled code stays LLVM's language until then. That overrides methods which Numba does not promise to keep; a
Numba that lacks one of them compiles the same kernels in its own way, which takes three to five times as long.
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
"""To numbers of one type, indexed like a list. Numba infers types, for each dtype anew: annotations are for readers."""
Number = Any
"""A type of numbers: compiled code may be given types, and then does what hangs on them when it is compiled."""
Codegen = Callable[..., Any]

OVERRIDDEN = ("_optimize_functions", "_optimize_final_module", "_finalize_final_module", "_finalize_dynamic_globals")
"""Methods of Numba's libraries that are replaced or called below; all of them private, as of Numba 0.61 to 0.68."""

# Only contraction of a * b + c: anything more would let the compiler assume that there is no infinity and no NaN.
OPTIONS: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "nogil": True}


def compiled(function: Function) -> Function:
    """A function that only compiled functions call. It has no entrance for Python: called from there, it crashes."""
    dispatcher: Function = njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)(function)
    return dispatcher


def named(function: Function, name: str) -> Function:
    """Name one of several functions that are made by the same lines, before it is compiled.

    A name has to mean one code. Symbols in what is kept on disk are of qualified name, types and a number that counts
    functions in the process that compiled it; when kernels from several processes are loaded into one, LLVM takes the
    first of equal symbols for all of them.
    """
    function.__qualname__ = name
    return function


def kept(function: Callable[..., None], *more: Any) -> int:
    """Compile a function of a pointer to 64-bit integers, or load what an earlier process has compiled.

    Args:
        function: as said.
        more: Numba's types of what it takes after the pointer.

    Returns:
        Its address.
    """
    with _in_one_piece(function.__qualname__):
        return cfunc(types.void(types.CPointer(types.int64), *more), cache=True, **OPTIONS)(function).address


class _Part(JITCodeLibrary):
    """A function of a kernel: linked into it as it is, neither optimised nor made machine code of by itself."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout  # noqa: SLF001  # as Numba's own does

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """None: there is no machine code."""
        return 0


class _Kernel(JITCodeLibrary):
    """A kernel, with all that it calls: optimised once."""


@contextmanager
def _in_one_piece(kernel: str) -> Iterator[None]:
    """Compile everything within this block as parts of a kernel, except the function of that qualified name."""
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
        """Only objects of Python need it; there are none."""

    with global_compiler_lock:
        codegen.create_library, codegen.set_env = create_library, set_env
        try:
            yield
        finally:
            del codegen.create_library, codegen.set_env


def intrinsic(function: Callable[..., Any]) -> Any:
    """A function that writes LLVM code, to be called by compiled functions; its own arguments are their types."""
    return numba.extending.intrinsic(function)


def chosen_by_types(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Overloads ``function`` in compiled code by what the decorated one returns for the types of the arguments."""
    decorate: Any = numba.extending.overload(function, jit_options=OPTIONS)
    return decorate
