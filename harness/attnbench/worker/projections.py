"""Multi-head attention around any core implementation: projections, heads, concatenation, output projection.

Vaswani et al., "Attention Is All You Need" (2017), section 3.2.2. Without bias vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnbench.cases.case import Case
    from attnbench.registry.implementation import Declaration
    from attnbench.registry.operands import Operands


def with_projections(
    core: Callable[[Any, Any, Any], Any], said: Declaration, case: Case, operands: Operands
) -> Callable[[Any, Any, Any], Any]:
    """Wrap ``core(q, k, v)`` into a function of the inputs x_q, x_k, x_v of shape (batch, seqlen, embed_dim).

    Returns the output, shape (batch, seqlen_q, embed_dim); an LSE that the core returns is dropped.
    """
    w_q, w_k, w_v, w_o = operands.w_q, operands.w_k, operands.w_v, operands.w_o

    def multi_head(x_q: Any, x_k: Any, x_v: Any) -> Any:
        q = _split(x_q @ w_q, case.heads_q, said.layout)
        k = _split(x_k @ w_k, case.heads_kv, said.layout)
        v = _split(x_v @ w_v, case.heads_kv, said.layout)
        result = core(q, k, v)
        out = result[0] if said.returns_lse else result
        return _join(out, case, said.layout) @ w_o

    return multi_head


def _split(x: Any, heads: int, layout: str) -> Any:
    """(batch, seqlen, heads * dim) to the layout of the core; ``bhsd`` is a transposed view, as in real models."""
    batch, seqlen, width = x.shape
    split = x.reshape(batch, seqlen, heads, width // heads)
    if layout == "bshd":
        return split
    if layout == "packed":
        return split.reshape(batch * seqlen, heads, width // heads)
    return split.swapaxes(1, 2)


def _join(out: Any, case: Case, layout: str) -> Any:
    """Back to (batch, seqlen_q, heads_q * head_dim_v): the heads' outputs one behind the other."""
    if layout == "bhsd":
        out = out.swapaxes(1, 2)
    return out.reshape(case.batch, case.seqlen_q, case.heads_q * case.head_dim_v)
