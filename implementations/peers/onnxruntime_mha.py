"""ONNX Runtime's MultiHeadAttention on the CPU: a contrib operator with a flash kernel in float32.

The model has that one node. Its session is built in prepare, and calls bind the tensors' own memory: nothing is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "onnxruntime/mha",
    dtypes=("float32",),
    masks=("none", "causal"),
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
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.number = np.float32
        self.session: Any = ort.InferenceSession(model(case), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def shape(tensor: Tensor) -> list[int]:
        """Heads and head_dim are one dimension to the operator."""
        return [tensor.shape[0], tensor.shape[1], tensor.shape[2] * tensor.shape[3]]


multi_head.prepare(Plan)
# The library has no names. Its flash kernel calls one GEMM twice, for Q K^T and then for P V.
multi_head.phases({r"^onnxruntime_pybind11_state.*!\+": ("", "qk", "pv")})


def model(case: Case) -> bytes:
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
    node = helper.make_node(
        "MultiHeadAttention",
        ["q", "k", "v"],
        ["out"],
        domain="com.microsoft",
        num_heads=case.heads_q,
        scale=float(case.scale),
        unidirectional=int(case.mask == "causal"),
    )
    graph = helper.make_graph([node], "attention", [values[name] for name in "qkv"], [values["out"]])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    return serialized


@multi_head.supports
def refusal(case: Case, device: str) -> str | None:
    """The operator's causal mask is for equal lengths."""
    del device
    if case.mask == "causal" and case.seqlen_q != case.seqlen_kv:
        return "unidirectional attention of unequal lengths is not what causal means here"
    return None
