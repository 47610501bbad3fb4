"""The processor that code is compiled for, chosen once, when the kernels are imported.

Numba compiles for the processor that it runs on, unless ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` name another.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Target:
    """Registers and instructions.

    Attributes:
        name: name for display, and for the cache on disk.
        register_bits: width of a vector register.
        columns: columns of the micro-kernel's tile of 6 rows, in registers, 4 or 2: its accumulators, an operand per
            column, and a broadcast operand must fit into the register file.
        bfloat16_dot: LLVM's function that multiplies pairs of bfloat16 and adds both products to a float32, or
            ``None``.
        round_to_bfloat16: LLVM's function that rounds float32, or ``None`` if that takes integer arithmetic.
        round_two_to_bfloat16: the same for two vectors at once, the second's numbers before the first's.
        scale: LLVM's function that multiplies by a power of two, for float32 and float64; ``None`` if that takes
            integer arithmetic.
    """

    name: str
    register_bits: int
    columns: int
    bfloat16_dot: str | None = None
    round_to_bfloat16: str | None = None
    round_two_to_bfloat16: str | None = None
    scale: dict[int, str] | None = None

    def lanes(self, bits: int) -> int:
        """Return how many numbers of ``bits`` bits a register holds."""
        return self.register_bits // bits


def detect(features: frozenset[str], machine: str) -> Target:
    """Return the target for a set of LLVM feature names.

    Args:
        features: feature names, such as ``avx512f``.
        machine: first part of LLVM's target triple.
    """
    if "avx512f" in features and "avx512vl" in features and "avx512dq" in features:
        pairs, one, two = (f"llvm.x86.avx512bf16.{name}.512" for name in ("dpbf16ps", "cvtneps2bf16", "cvtne2ps2bf16"))
        scale = {32: "llvm.x86.avx512.mask.scalef.ps.512", 64: "llvm.x86.avx512.mask.scalef.pd.512"}
        if "avx512bf16" in features:
            return Target("AVX-512 BF16", 512, 4, pairs, one, two, scale)  # 32 registers
        return Target("AVX-512", 512, 4, scale=scale)
    if machine in {"aarch64", "arm64"}:
        dot = "llvm.aarch64.neon.bfdot.v4f32.v8bf16" if "bf16" in features else None
        return Target("NEON BF16" if dot else "NEON", 128, 4, dot)  # 32 registers
    if "avx2" in features and "fma" in features:
        return Target("AVX2", 256, 2)  # 16 registers
    return Target("128-bit vectors", 128, 2)


def current() -> Target:
    """Return the target of Numba's compiler in this process."""
    from numba.core.registry import cpu_target

    codegen: Any = cpu_target.target_context.codegen()
    triple, _, features = codegen.magic_tuple()
    offered = frozenset(feature[1:] for feature in features.split(",") if feature.startswith("+"))
    return detect(offered, triple.split("-")[0])


TARGET = current()
