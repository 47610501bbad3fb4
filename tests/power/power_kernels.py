"""Two implementations and what can be wrong with them; real code that runs longer, not numbers that are edited.

``base.py`` defines them sound, ``head.py`` with FAULTS, in cells of power.toml that differ in their length.
"""

from __future__ import annotations

from time import perf_counter_ns

import numpy as np

from attnbench import attention

FAULTS = {
    ("power/slowed", 192, "float32"): "5 % slower",
    ("power/slowed", 256, "float32"): "5 % slower",
    ("power/slowed", 320, "float32"): "5 % slower",
    ("power/slowed", 208, "float32"): "10 % slower",
    ("power/slowed", 272, "float32"): "10 % slower",
    ("power/slowed", 336, "float32"): "10 % slower",
    ("power/slowed", 224, "float32"): "20 % slower",
    ("power/slowed", 288, "float32"): "20 % slower",
    ("power/faulty", 192, "float32"): "1 MiB more",
    ("power/faulty", 320, "float32"): "returns early",
    ("power/faulty", 336, "float32"): "wrong",
    ("power/faulty", 96, "float16"): "lost dtype",
}
"""By implementation, seqlen_q and dtype (only cases of head_dim 64 are touched)."""
SLOWER = {"5 % slower": 0.05, "10 % slower": 0.10, "20 % slower": 0.20}
MASKS = ["none", "causal"]


def fused(q, k, v, case):
    import torch  # not at the top: the workers of the NumPy implementation need not wait for it

    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=case.mask == "causal", scale=case.scale)


def plain(q, k, v, case):
    scores = case.scale * (q.astype(np.float32) @ k.astype(np.float32).swapaxes(-1, -2))
    if case.mask == "causal":
        scores = np.where(np.tri(case.seqlen_q, dtype=bool), scores, -np.inf)
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return (scores @ v.astype(np.float32)).astype(q.dtype)


def fault_of(implementation, seqlen_q, dtype, head_dim):
    """The fault that head.py has in such a cell, or ``None``."""
    return FAULTS.get((implementation, seqlen_q, dtype)) if head_dim == 64 else None


def define(*, faulty: bool):
    """Both implementations, sound or with their faults."""
    dtypes = ["float32"] if faulty else ["float32", "float16"]

    def fault(name, case):
        return fault_of(name, case.seqlen_q, case.dtype, case.head_dim) if faulty else None

    @attention("power/slowed", dtypes=["float32"], masks=MASKS)
    def slowed(q, k, v, case):
        """Spins for a share of what its own call has just taken."""
        start = perf_counter_ns()
        out = fused(q, k, v, case)
        end = perf_counter_ns()
        until = end + SLOWER.get(fault("power/slowed", case), 0.0) * (end - start)
        while perf_counter_ns() < until:
            pass
        return out

    @attention("power/faulty", framework="numpy", dtypes=dtypes, masks=MASKS)
    def unsound(q, k, v, case):
        """Holds a MiB more, computes something else, or skips the work."""
        found = fault("power/faulty", case)
        if found == "returns early":
            return np.zeros_like(q)
        if found == "wrong":
            return plain(q * np.float32(1.01), k, v, case)
        held = np.ones(2**18, np.float32) if found == "1 MiB more" else None
        out = plain(q, k, v, case)
        del held
        return out

    return slowed, unsound
