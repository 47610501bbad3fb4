"""ONNX Runtime's MultiHeadAttention on the CPU: a contrib operator with a flash kernel in float32.

The model has a single node; its session is built in prepare. Calls bind the tensors' own memory: nothing is copied.
Masks other than causal, and biases, become its ``attention_bias``, built in prepare. It returns NaN for a row that sees
no key: such rows are set to 0 after the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench import MASK_KINDS, attention, dense_bias, dense_mask

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case, Operands


@attention(
    "onnxruntime/mha",
    dtypes=("float32",),
    masks=MASK_KINDS,
    mask_intersections=True,
    score_mods=("none", "alibi", "relative_bias", "bias"),
    score_mod_combinations=True,
    alignments=("top_left", "bottom_right"),
    unequal_head_dims=True,
    layout="bshd",
    empty=True,
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
    return out if plan.blind is None else out.masked_fill_(plan.blind[..., None], 0)


class Plan:
    """A session with the model of a case."""

    def __init__(self, case: Case, operands: Operands) -> None:
        import numpy as np
        import onnxruntime as ort
        import torch

        self.bias = additive(case, operands)
        # (batch or 1, seqlen_q, heads or 1): rows that see no key
        blind = None if self.bias is None else self.bias.isneginf().all(-1).mT
        self.blind = blind if blind is not None and bool(blind.any()) else None
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.number = np.float32
        self.session: Any = ort.InferenceSession(model(case, self.bias), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def shape(tensor: Tensor) -> list[int]:
        """Return the operator's shape of a tensor, in which heads and head_dim are one dimension."""
        return [tensor.shape[0], tensor.shape[1], tensor.shape[2] * tensor.shape[3]]


multi_head.prepare(Plan)
# The library's functions are unnamed. Its flash kernel calls one GEMM twice, for Q K^T and then for P V.
multi_head.phases({r"^onnxruntime_pybind11_state.*!\+": ("", "qk", "pv")})


def has_flag(case: Case) -> bool:
    """Whether a flag expresses the mask; the node's is for equal lengths."""
    causal = case.mask == "causal" and case.seqlen_q == case.seqlen_kv
    return case.score_mod == "none" and (causal or case.mask == "none")


def additive(case: Case, operands: Operands) -> Tensor | None:
    """Return mask and bias as a tensor, (batch or 1, heads_q or 1, seqlen_q, seqlen_kv); ``None`` if a flag will do."""
    import torch

    if has_flag(case):
        return None
    table = operands.relative_bias
    bias = dense_bias(case, None if table is None else table.double().numpy())
    added = torch.zeros(1, 1, 1, 1) if bias is None else torch.from_numpy(bias).float()
    visible = torch.from_numpy(dense_mask(case))
    return torch.where(visible, added, -torch.inf).contiguous()


def model(case: Case, bias: Tensor | None) -> bytes:
    """Return the model: the node with its inputs and output."""
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
    """Return why the case's sizes of 0 cannot be passed, or ``None``."""
    del device
    if not case.batch or not case.seqlen_q:
        return "ONNX Runtime binds no output without elements"
    return None
