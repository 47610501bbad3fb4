"""OpenVINO's ScaledDotProductAttention on the CPU, computing in float32 or in bfloat16.

The model has that one node. It is compiled in prepare, with the precision that is asked for, and calls hand over the
tensors' own memory: nothing is copied, but the heads of a projection, whose tokens lie apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "openvino/sdpa",
    dtypes=("float32", "bfloat16"),
    masks=("none", "causal"),
    requires=("openvino>=2025.0",),
    stores_scores=True,
)
def sdpa(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """ScaledDotProductAttention of OpenVINO's opset 13, one node by itself."""
    out = q.new_empty(case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)
    inputs = [tensor.contiguous() for tensor in (q, k, v)]  # alive until the answer is there
    for i, tensor in enumerate(inputs):
        plan.request.set_input_tensor(i, plan.wrapped(tensor))
    plan.request.set_output_tensor(0, plan.wrapped(out))
    plan.request.infer()
    return out


class Plan:
    """A compiled model of a case."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import numpy as np
        import openvino as ov
        import torch
        from openvino import opset13

        del operands
        self.kind = ov.Type.bf16 if case.dtype == "bfloat16" else ov.Type.f32
        q, k, v = (
            opset13.parameter([case.batch, case.heads_q, rows, width], self.kind)
            for rows, width in (
                (case.seqlen_q, case.head_dim),
                (case.seqlen_kv, case.head_dim),
                (case.seqlen_kv, case.head_dim_v),
            )
        )
        scale = opset13.constant(np.array(case.scale, np.float32))
        scale = scale if self.kind == ov.Type.f32 else opset13.convert(scale, "bf16")
        mask = opset13.constant(np.zeros((), np.float32))
        mask = mask if self.kind == ov.Type.f32 else opset13.convert(mask, "bf16")
        node = opset13.scaled_dot_product_attention(q, k, v, mask, scale, causal=case.mask == "causal")
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if case.dtype == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        compiled = ov.Core().compile_model(ov.Model([node], [q, k, v], "attention"), "CPU", settings)
        self.request: Any = compiled.create_infer_request()
        self._tensor: Any = ov.Tensor

    def wrapped(self, tensor: Tensor) -> Any:
        """A tensor that shares the memory; NumPy, between the two, has no bfloat16."""
        import torch

        if tensor.dtype == torch.bfloat16:
            return self._tensor(tensor.view(torch.int16).numpy(), list(tensor.shape), self.kind)
        return self._tensor(tensor.numpy(), shared_memory=True)


sdpa.prepare(Plan)
# Requests, shapes and tensors: kernels are in the plug-in for the processor, or compiled when they are needed.
sdpa.phases({r"^(_pyopenvino|libopenvino\.so)": "dispatch"})


@sdpa.supports
def refusal(case: Case, device: str) -> str | None:
    """The node's causal mask is for equal lengths."""
    del device
    if case.mask == "causal" and case.seqlen_q != case.seqlen_kv:
        return "causal attention of unequal lengths is not what causal means here"
    return None
