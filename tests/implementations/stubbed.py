"""Calls a back end with a stand-in for its library: ``python -m tests.implementations.stubbed JOBS OUTPUTS``.

There, the folder ``stubs`` is first on the path. A stand-in has the documented signature and computes the documented
result, so a layout, scale, flag or head map that is passed wrongly gives a wrong answer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attnbench import make_case
from tests.implementations.conftest import as_array, implementation, operands_of, results_of


def main(jobs: Path, outputs: Path) -> None:
    """Write one ``.npz`` file per job, by its name."""
    sys.path.insert(0, str(Path(__file__).parent / "stubs"))
    for job in json.loads(jobs.read_text()):
        one, case = implementation(job["module"], job["implementation"]), make_case(**job["case"])
        if one.declaration.framework == "jax":  # its stand-in takes NumPy's arrays, which have no bfloat16
            operands = operands_of(case, framework="numpy", layout="bshd")
            plan = () if one.prepare_hook is None else (one.prepare_hook(case, operands),)
            out = one.call(operands.q, operands.k, operands.v, case, *plan)
            found: dict[str, Any] = {"out": as_array(out, "bshd")}
        elif one.declaration.layout == "packed":
            found = {"out": packed(one, case)}
        else:
            found = results_of(one, case)
        np.savez(outputs / f"{job['name']}.npz", **found)


def packed(one: Any, case: Any) -> Any:
    """Call with packed tokens; ``torch.nn.attention.varlen`` has no CPU kernel, so a definition replaces it."""
    from torch.nn.attention import varlen

    varlen.varlen_attn = varlen_attn  # type: ignore[assignment]
    operands = operands_of(case)
    q, k, v = (x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3]) for x in (operands.q, operands.k, operands.v))
    out = one.call(q, k, v, case, one.prepare_hook(case, operands))
    return as_array(out.reshape(case.batch, case.seqlen_q, case.heads_q, case.head_dim), "bshd")


def varlen_attn(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu_seq_q: torch.Tensor, cu_seq_k: torch.Tensor,
    max_q: int, max_k: int, *, scale: float | None = None, window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """Compute attention of packed sequences by definition."""
    from reference import attend  # type: ignore[import-not-found]

    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert max_q == max_k == int(cu_seq_q.diff().max())
    parts = []
    for begin, end in zip(cu_seq_q.tolist(), cu_seq_q.tolist()[1:], strict=False):
        heads_first = [x[begin:end].transpose(0, 1)[None] for x in (query, key, value)]
        parts.append(attend(*heads_first, scale=scale, window=window_size)[0][0].transpose(0, 1))
    return torch.cat(parts)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
