"""ONNX Runtime's MultiHeadAttention on the CPU: a contrib operator with a flash kernel in float32.

The model has that one node. Its session is built in prepare, and calls bind the tensors' own memory: nothing is copied.
A mask and a bias that are tensors become its ``attention_bias``, made in prepare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import attention, dense_bias, dense_mask

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "onnxruntime/mha",
    dtypes=("float32",),
    masks=("none", "causal", "tensor", "block_sparse"),
    mask_intersections=True,
    score_mods=("none", "bias"),
    unequal_head_dims=True,
    layout="bshd",
    requires=("onnxruntime>=1.20", "onnx>=1.17"),
)
def multi_head(q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> Tensor:
    """com.microsoft.MultiHeadAttention of ONNX Runtime, one node by itself."""
    out = q.new_empty(case.batch, case.seqlen_q, case.heads_q, case.head_dim_v)
    binding = plan.session.io_binding()
    for name, tensor in zip("qkv", (q, k, v), strict=True):
        binding.bind_input(name, "cpu", 0, plan.number, plan.shape(tensor), tensor.data_ptr())
    if plan.bias is not None:
        binding.bind_input("bias", "cpu", 0, plan.number, list(plan.bias.shape), plan.bias.data_ptr())
    binding.bind_output("out", "cpu", 0, plan.number, plan.shape(out), out.data_ptr())
    plan.session.run_with_iobinding(binding)
    return out


class Plan:
    """A session with the model of a case."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import numpy as np
        import onnxruntime as ort
        import torch

        del operands
        self.bias = additive(case)
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.number = np.float32
        self.session: Any = ort.InferenceSession(model(case, self.bias), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def shape(tensor: Tensor) -> list[int]:
        """Heads and head_dim are one dimension to the operator."""
        return [tensor.shape[0], tensor.shape[1], tensor.shape[2] * tensor.shape[3]]


multi_head.prepare(Plan)
# The library has no names. Its flash kernel calls one GEMM twice, for Q K^T and then for P V.
multi_head.phases({r"^onnxruntime_pybind11_state.*!\+": ("", "qk", "pv")})


def additive(case: Case) -> Tensor | None:
    """Mask and bias as one tensor, (batch or 1, heads_q or 1, seqlen_q, seqlen_kv); ``None`` where a flag says all."""
    import torch

    bias = dense_bias(case, None)
    if bias is None and case.mask in ("none", "causal"):
        return None
    added = torch.zeros(1, 1, 1, 1) if bias is None else torch.from_numpy(bias).float()
    visible = torch.from_numpy(dense_mask(case))
    return torch.where(visible, added, -torch.inf).contiguous()


def model(case: Case, bias: Tensor | None) -> bytes:
    """The node, with its inputs and its output."""
    from onnx import TensorProto, helper

    widths = {"q": case.head_dim, "k": case.head_dim, "v": case.head_dim_v, "out": case.head_dim_v}
    rows = {"q": case.seqlen_q, "k": case.seqlen_kv, "v": case.seqlen_kv, "out": case.seqlen_q}
    values = {
        name: helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [case.batch, rows[name], case.heads_q * widths[name]]
        )
        for name in widths
    }
    of_bias = []
    if bias is not None:
        of_bias = [helper.make_tensor_value_info("bias", TensorProto.FLOAT, list(bias.shape))]
    node = helper.make_node(
        "MultiHeadAttention",
        ["q", "k", "v", *(["", "", "bias"] if of_bias else [])],
        ["out"],
        domain="com.microsoft",
        num_heads=case.heads_q,
        scale=float(case.scale),
        unidirectional=int(case.mask == "causal" and bias is None),
    )
    graph = helper.make_graph([node], "attention", [*(values[name] for name in "qkv"), *of_bias], [values["out"]])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return serialized


@multi_head.supports
def refusal(case: Case, device: str) -> str | None:
    """The operator's causal mask is for equal lengths, and a row that sees no key has no answer there."""
    del device
    if case.mask == "causal" and case.score_mod == "none" and case.seqlen_q != case.seqlen_kv:
        return "unidirectional attention of unequal lengths is not what causal means here"
    bias = additive(case)
    if bias is not None and bool(bias.isneginf().all(-1).any()):
        return "a row that sees no key would be NaN"
    return None
