"""OpenVINO's ScaledDotProductAttention on the CPU, computing in float32 or in bfloat16.

The model has a single node. It is compiled in prepare, with the requested precision, and calls pass the tensors' own
memory: only strided tensors, such as the heads of a projection, are copied. It returns NaN for a row that sees no key:
such rows are set to 0 after the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import MASK_KINDS, attention, dense_bias, dense_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "openvino/sdpa",
    dtypes=("float32", "bfloat16"),
    masks=MASK_KINDS,
    mask_intersections=True,
    score_mods=("none", "alibi", "relative_bias", "bias"),
    score_mod_combinations=True,
    alignments=("top_left", "bottom_right"),
    empty=True,
    requires=("openvino>=2025.0",),
    stores_scores=True,
)
def sdpa(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """ScaledDotProductAttention of OpenVINO's opset 13, one node by itself."""
    out = q.new_empty(case.batch, case.heads_q, case.seqlen_q, case.head_dim_v)
    inputs = [tensor.contiguous() for tensor in (q, k, v)]  # kept alive until the call is done
    for i, tensor in enumerate(inputs):
        plan.request.set_input_tensor(i, plan.wrapped(tensor))
    plan.request.set_output_tensor(0, plan.wrapped(out))
    plan.request.infer()
    return out if plan.blind is None else out.masked_fill_(plan.blind[..., None], 0)


class Plan:
    """A compiled model of a case."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import numpy as np
        import openvino as ov
        import torch
        from openvino import opset13

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
        bias = additive(case, operands)
        # (batch or 1, heads or 1, seqlen_q): rows that see no key
        blind = None if bias is None else torch.from_numpy(np.isneginf(bias).all(-1))
        self.blind = blind if blind is not None and bool(blind.any()) else None
        mask = opset13.constant(np.zeros((), np.float32) if bias is None else bias)
        mask = mask if self.kind == ov.Type.f32 else opset13.convert(mask, "bf16")
        node = opset13.scaled_dot_product_attention(q, k, v, mask, scale, causal=case.mask == "causal" and bias is None)
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if case.dtype == "bfloat16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
        }
        compiled = ov.Core().compile_model(ov.Model([node], [q, k, v], "attention"), "CPU", settings)
        self.request: Any = compiled.create_infer_request()
        self._tensor: Any = ov.Tensor

    def wrapped(self, tensor: Tensor) -> Any:
        """Wrap a tensor's memory; bfloat16 takes a detour, as NumPy lacks it."""
        import torch

        if tensor.dtype == torch.bfloat16:
            return self._tensor(tensor.view(torch.int16).numpy(), list(tensor.shape), self.kind)
        return self._tensor(tensor.numpy(), shared_memory=True)


sdpa.prepare(Plan)
sdpa.phases(
    {
        # Requests, shapes and tensors: kernels are in the plug-in for the processor, or compiled when they are needed.
        r"^(_pyopenvino|libopenvino\.so)": "dispatch",
        # Kernels of products are compiled in the order of the steps: one for Q K^T; one or two for P V, of which the
        # second adds to what a block of keys before has left. Where tiles do not divide the lengths there are more.
        r"^compiled!jit_brgemm_kernel_t 1 of [23]$": "qk",
        r"^compiled!jit_brgemm_kernel_t [23] of [23]$": "pv",
        r"^compiled!(jit_brgemm_matmul_copy|BrgemmCopyB|jit_uni_permute)": "copies",
    }
)


def has_flag(case: Case) -> bool:
    """Whether a flag expresses the mask; the node's is for equal lengths."""
    causal = case.mask == "causal" and case.seqlen_q == case.seqlen_kv
    return case.score_mod == "none" and (causal or case.mask == "none")


def additive(case: Case, operands: Operands) -> NDArray[np.float32] | None:
    """Return mask and bias as an array, (batch or 1, heads_q or 1, seqlen_q, seqlen_kv); ``None`` if a flag will do."""
    import numpy as np

    if has_flag(case):
        return None
    table = operands.relative_bias
    bias = dense_bias(case, None if table is None else table.double().numpy())
    added = np.zeros((1, 1, 1, 1)) if bias is None else bias
    return np.where(dense_mask(case), added, -np.inf).astype(np.float32)


@sdpa.supports
def refusal(case: Case, device: str) -> str | None:
    """Return why OpenVINO cannot run the case's sizes of 0, or ``None``."""
    del device
    return None if case.seqlen_kv else "OpenVINO leaves the output as it was where there are no keys"
