"""cuDNN's fused attention through NVIDIA's own frontend: a graph that is planned once and executed many times.

Its interface: github.com/NVIDIA/cudnn-frontend, docs/operations/Attention.md. Forward only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "cudnn/frontend",
    device="cuda",
    dtypes=("float16", "bfloat16"),
    masks=("none", "causal"),
    alignments=("top_left", "bottom_right"),
    strides=("contiguous", "transposed", "qkv_slice", "sliced"),
    gqa=True,
    unequal_head_dims=True,
    memory="O(n)",
    requires=("nvidia-cudnn-frontend>=1.32",),
)
def frontend(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """CuDNN's fused attention through its frontend."""
    out = q.new_empty(case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)
    plan.execute(q, k, v, out)
    return out


class Plan:
    """The graph with its execution plan, and its workspace."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import cudnn
        import torch

        kind = {"float16": cudnn.data_type.HALF, "bfloat16": cudnn.data_type.BFLOAT16}[case.dtype]
        self.cudnn, self.torch = cudnn, torch
        self.handle = cudnn.create_handle()
        single = cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            io_data_type=kind, intermediate_data_type=single, compute_data_type=single, handle=self.handle
        )
        self.inputs = [
            graph.tensor(name=name, dim=list(x.shape), stride=list(x.stride()), data_type=kind)
            for name, x in (("q", operands.q), ("k", operands.k), ("v", operands.v))
        ]
        top_left = case.alignment == "top_left" or case.seqlen_q == case.seqlen_kv
        self.out, _ = graph.sdpa(
            name="sdpa",
            q=self.inputs[0],
            k=self.inputs[1],
            v=self.inputs[2],
            attn_scale=case.scale,
            generate_stats=False,
            use_causal_mask=case.mask == "causal" and top_left,
            use_causal_mask_bottom_right=case.mask == "causal" and not top_left,
        )
        shape = (case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)
        self.out.set_output(True).set_dim(list(shape)).set_stride(list(contiguous(shape)))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.check_support()
        graph.build_plans()
        self.graph: Any = graph
        device = operands.q.device
        self.workspace = torch.empty(graph.get_workspace_size(), dtype=torch.uint8, device=device)

    def execute(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """Execute the plan on torch's current stream."""
        if q.is_cuda:
            self.cudnn.set_stream(handle=self.handle, stream=self.torch.cuda.current_stream().cuda_stream)
        tensors = dict(zip((*self.inputs, self.out), (q, k, v, out), strict=True))
        self.graph.execute(tensors, self.workspace, handle=self.handle)


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return tuple(strides)


frontend.prepare(Plan)


@frontend.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why cuDNN cannot run the case according to its documentation, or ``None``."""
    del device
    if case.head_dim % 8 or case.head_dim_v % 8 or max(case.head_dim, case.head_dim_v) > 256:
        return f"head dims {case.head_dim} and {case.head_dim_v} are not both multiples of 8 up to 256"
    if case.mask == "causal" and case.alignment == "bottom_right" and case.seqlen_q > case.seqlen_kv:
        return "cuDNN's causal mask is aligned bottom right only up to as many queries as keys"
    return None
