"""Phases of functions of common libraries, for every caller. Rules of one implementation are in its own table."""

from __future__ import annotations

import re

from attnbench.profiling.phases import Phase

_RULES: tuple[tuple[str, Phase], ...] = (
    (r"^kernel!.*(futex|sched|task_switch|hrtimer|nanosleep|poll|wait)", Phase.WAITING),
    (r"^kernel!", Phase.MEMORY),
    (r"^libc\.so.*!_*(sched_yield|nanosleep|futex)", Phase.WAITING),
    (r"!.*(clock_gettime|chrono::_V2::\w+::now)", Phase.DISPATCH),
    (r"^libc\.so.*!_*(mem(cpy|move|set)|wmem)", Phase.COPIES),
    (r"^libc\.so.*!.*(malloc|calloc|realloc|free|memalign|munmap|mmap|brk|morecore)", Phase.MEMORY),
    (r"^lib(mimalloc|tbbmalloc|jemalloc|tcmalloc)", Phase.MEMORY),
    (r"^(lib(gomp|iomp5|omp|tbb)\b|tbbpool|workqueue|omppool)|!gomp_|!omp_|!__kmp", Phase.WAITING),
    (r"openblas.*!(exec_blas|inner_thread|blas_thread_server)", Phase.WAITING),  # they spin; their callees do the work
    (r"^(libpython|python)\d?|^libtorch_python\.so|^libc10\.so|^ld-linux", Phase.DISPATCH),
    (
        r"!.*\b(c10::(impl|Dispatcher|KernelFunction|OperatorHandle|TensorImpl)|torch::(jit|autograd)|at::_ops)",
        Phase.DISPATCH,
    ),
    (r"![\w.]*([sd]Exp_|_exp_|_EXP_)|!_*(Sleef_)?exp2?f?(d?\d|\b)|![\w:. ]*\bf?exp(_u\d+)?\(", Phase.EXP),
    (r"!mkl_\w*(copy|pack)|!\w*gemm_\w*(ncopy|tcopy|itcopy|otcopy|oncopy|incopy)", Phase.COPIES),
    (r"!\w*gem[mv]|!mkl_blas|!cblas_|!.*brgemm", Phase.PRODUCTS),
    (r"!.*at::native::.*softmax", Phase.SOFTMAX),
)
_CALLERS: tuple[tuple[str, Phase], ...] = (
    (r"torch::autograd::generated::\w*(Mm|Bmm|Matmul|Addmm)Backward\d*::apply", Phase.GRADIENTS),
    (r"torch::autograd::generated::(MaskedFill|Mul|Tanh|Where|Add)Backward\d*::apply", Phase.MASK),
    (r"torch::autograd::generated::\w+Backward\d*::apply", Phase.SOFTMAX),
)
"""Steps of torch's autograd: everything in attention's backward pass that has no other phase belongs to the softmax."""


def calling_phase(name: str) -> Phase | None:
    """Return the phase of a function's callees by its ``module!function``, or ``None`` if no rule matches."""
    return _first(_CALLERS, name) if "autograd" in name else None


def library_phase(name: str) -> Phase | None:
    """Return the phase of a function by its ``module!function``, or ``None`` if no rule matches."""
    return _first(_RULES, name)


def _first(rules: tuple[tuple[str, Phase], ...], name: str) -> Phase | None:
    return next((phase for pattern, phase in rules if re.search(pattern, name)), None)
