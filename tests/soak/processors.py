"""Environment variables that make libraries choose the code for another processor.

They must be set before NumPy, torch or Numba is imported. Libraries ignore names that they do not know.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"

PROCESSORS: Mapping[str, Mapping[str, str]] = {
    "own": {},
    "avx512": {
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "NPY_DISABLE_CPU_FEATURES": "AVX512_ICL AVX512_SPR",
        "NUMBA_CPU_NAME": "skylake-avx512",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": _NO_AVX512,
        "NUMBA_CPU_NAME": "haswell",
    },
    "zen": {  # oneMKL has different code for AMD and Intel
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OPENBLAS_CORETYPE": "Zen",
        "NPY_DISABLE_CPU_FEATURES": _NO_AVX512,
        "NUMBA_CPU_NAME": "znver3",
    },
    "avx": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "AVX",
        "ONEDNN_MAX_CPU_ISA": "AVX",
        "OPENBLAS_CORETYPE": "Sandybridge",
        "NPY_DISABLE_CPU_FEATURES": f"{_NO_AVX512} AVX2 FMA3 X86_V3",
        "NUMBA_CPU_NAME": "sandybridge",
    },
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": f"{_NO_AVX512} AVX2 FMA3 X86_V3",
        "NUMBA_CPU_NAME": "nehalem",
    },
}
"""Variables by name; each except ``own`` must be a processor whose instructions the machine has."""
