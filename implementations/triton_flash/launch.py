"""Launches the kernels with the tensors of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .plan import Plan, blocks, load, power_of_two

if TYPE_CHECKING:
    from torch import Tensor

    from .tuning import Config


def compiled(config: Config, **more: Any) -> dict[str, Any]:
    """Return a configuration as keyword arguments of a launch."""
    tiles = {"BLOCK_M": config.block_m, "BLOCK_N": config.block_n}
    return {**tiles, "num_warps": config.num_warps, "num_stages": config.num_stages, **more}


def keys_last(v: Tensor) -> Tensor:
    """Copy V to (batch, heads_kv, head_dim_v, seqlen_kv), with rows that start at multiples of 16 bytes."""
    batch, heads, seqlen, dim = v.shape
    rows = v.new_empty((batch, heads, dim, -(-seqlen // 16) * 16))[..., :seqlen]
    return rows.copy_(v.transpose(2, 3))


def forward(plan: Plan, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the output (batch, heads_q, seqlen_q, head_dim_v) and the LSE (batch, heads_q, seqlen_q), float32."""
    case = plan.case
    out = q.new_empty((case.batch, case.heads_q, case.seqlen_q, case.head_dim_v), dtype=plan.out_dtype)
    lse = plan.scoring.table.new_empty((case.batch, case.heads_q, case.seqlen_q))
    kernel = load("forward", interpreted=plan.interpreted).forward
    sinks = plan.scoring.table if plan.sinks is None else plan.sinks
    v_transposed = plan.element_bytes == 1  # tensor cores read float8 operands only along the summed axis
    if v_transposed:
        v = keys_last(v)
    v_strides = plan.strides(v.transpose(2, 3) if v_transposed else v)

    def v_source(config: Config) -> Any:
        return plan.source(v, *((plan.block_dv, config.block_n) if v_transposed else (config.block_n, plan.block_dv)))

    def run(config: Config) -> Tensor:
        kernel[(blocks(case.seqlen_q, config.block_m), case.batch * case.heads_q)](
            plan.source(q, config.block_m, plan.block_d),
            plan.source(k, config.block_n, plan.block_d),
            v_source(config),
            out, lse, *plan.keys(config), sinks,
            plan.strides(q), plan.strides(k), v_strides, plan.size, plan.scoring,
            SINK=plan.sinks is not None,
            EVEN_KEYS=case.seqlen_kv % config.block_n == 0,
            SHIFT=plan.shift, TMA=plan.tma, V_TRANSPOSED=v_transposed,
            **compiled(config), **plan.common(), **plan.even(),
        )  # fmt: skip
        return out

    run(plan.config("forward", run))
    return out, lse


def backward(
    plan: Plan, dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute dQ, dK and dV, contiguous, in the inputs' dtype."""
    case = plan.case
    kernels = load("backward", interpreted=plan.interpreted)
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    delta = lse.new_empty(lse.shape)
    strides = tuple(plan.strides(x) for x in (q, k, v, dout))
    # The upstream gradient of .sum(), a single 1 expanded, does not fit a descriptor.
    shared = {"TMA": plan.tma, **plan.common(), **plan.even()}

    def sources(config: Config) -> tuple[Any, ...]:
        m, n, d, dv_ = config.block_m, config.block_n, plan.block_d, plan.block_dv
        return plan.source(q, m, d), plan.source(k, n, d), plan.source(v, n, dv_), plan.source(dout, m, dv_)

    kernels.deltas[(blocks(case.seqlen_q, 64), case.batch * case.heads_q)](
        out, dout, delta, plan.strides(out), plan.strides(dout), plan.size, BLOCK_M=64, BLOCK_DV=plan.block_dv
    )

    def run_dk_dv(config: Config) -> Tensor:
        kernels.dk_dv[(blocks(case.seqlen_kv, config.block_n), case.batch * case.heads_kv)](
            *sources(config), lse, delta, dk, dv, *plan.queries(config), *strides, plan.size, plan.scoring,
            EVEN_QUERIES=case.seqlen_q % config.block_m == 0, **compiled(config), **shared,
        )  # fmt: skip
        return dk

    def run_dq(config: Config) -> Tensor:
        kernels.dq[(blocks(case.seqlen_q, config.block_m), case.batch * case.heads_q)](
            *sources(config), lse, delta, dq, *plan.keys(config), *strides, plan.size, plan.scoring,
            EVEN_KEYS=case.seqlen_kv % config.block_n == 0, **compiled(config), **shared,
        )  # fmt: skip
        return dq

    run_dk_dv(plan.config("dk_dv", run_dk_dv))
    run_dq(plan.config("dq", run_dq))
    return dq, dk, dv


def decode(plan: Plan, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Like :func:`forward`, for few queries; K and V may be pages (pages, page_size, heads_kv, dim)."""
    case = plan.case
    kernels = load("decode", interpreted=plan.interpreted)
    if plan.paged:
        k, v = k.transpose(1, 2), v.transpose(1, 2)  # views with heads before tokens, as everywhere else
    assert not plan.paged or plan.table is not None
    float32 = plan.scoring.table
    out = q.new_empty((case.batch, case.heads_q, case.seqlen_q, case.head_dim_v), dtype=plan.out_dtype)
    lse = float32.new_empty((case.batch, case.heads_q, case.seqlen_q))
    low, high, _, _ = plan.bounds
    rows = case.seqlen_q * plan.size.group

    def run(config: Config) -> Tensor:
        row_blocks = blocks(rows, config.block_m)
        splits, each = plan.splits(config, row_blocks)
        part = float32.new_empty((splits, *out.shape))
        part_lse = float32.new_empty((splits, *lse.shape))
        kernels.partial[(splits, row_blocks, case.batch * case.heads_kv)](
            q, k, v, part, part_lse, low, high,
            float32 if plan.sinks is None else plan.sinks,
            low if plan.table is None else plan.table,
            plan.strides(q), plan.strides(k), plan.strides(v), plan.size, plan.scoring,
            1 if plan.table is None else plan.table.shape[1], case.page_size or 1, each,
            SINK=plan.sinks is not None, PAGED=plan.paged, SHIFT=plan.shift, PDL=plan.overlaps_merge,
            **compiled(config), **plan.common(),
        )  # fmt: skip
        kernels.merge[(lse.numel(),)](
            part, part_lse, out, lse, lse.numel(), case.head_dim_v, splits,
            BLOCK_SPLITS=power_of_two(splits, 2), BLOCK_DV=plan.block_dv, DROP=plan.drop,
            PDL=plan.overlaps_merge, **({"launch_pdl": True} if plan.overlaps_merge else {}),
        )  # fmt: skip
        return out

    run(plan.config("partial", run))
    return out, lse
