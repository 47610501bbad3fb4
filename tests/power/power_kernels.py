"""Two implementations and what can be wrong with them; real code that runs longer, not numbers that are edited.

``base.py`` defines them sound, ``head.py`` with the faults of FAULTS, each in one case.
"""

from __future__ import annotations

from time import perf_counter_ns

import torch

from attnbench import attention

FAULTS = {
    ("power/slowed", 192, "float32"): "5 % slower",
    ("power/slowed", 256, "float32"): "10 % slower",
    ("power/slowed", 320, "float32"): "20 % slower",
    ("power/faulty", 192, "float32"): "1 MiB more",
    ("power/faulty", 320, "float32"): "returns early",
    ("power/faulty", 384, "float32"): "wrong",
    ("power/faulty", 192, "bfloat16"): "lost dtype",
}
"""By implementation, seqlen_q and dtype (only cases of head_dim 64 are touched)."""
SLOWER = {"5 % slower": 0.05, "10 % slower": 0.10, "20 % slower": 0.20}
MASKS = ["none", "causal"]


def attend(q, k, v, case):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=case.mask == "causal", scale=case.scale)


def define(*, faulty: bool):
    """Both implementations, sound or with their faults."""
    dtypes = ["float32"] if faulty else ["float32", "bfloat16"]

    def fault_of(name, case):
        return FAULTS.get((name, case.seqlen_q, case.dtype)) if faulty and case.head_dim == 64 else None

    @attention("power/slowed", dtypes=["float32", "bfloat16"], masks=MASKS)
    def slowed(q, k, v, case):
        """Spins for a share of what its own call has just taken."""
        start = perf_counter_ns()
        out = attend(q, k, v, case)
        end = perf_counter_ns()
        until = end + SLOWER.get(fault_of("power/slowed", case), 0.0) * (end - start)
        while perf_counter_ns() < until:
            pass
        return out

    @attention("power/faulty", dtypes=dtypes, masks=MASKS)
    def unsound(q, k, v, case):
        """Holds a MiB more, computes something else, or skips the work."""
        fault = fault_of("power/faulty", case)
        if fault == "returns early":
            return torch.zeros_like(q)
        if fault == "wrong":
            return attend(q * 1.01, k, v, case)
        held = torch.ones(2**18) if fault == "1 MiB more" else None
        out = attend(q, k, v, case)
        del held
        return out

    return slowed, unsound
