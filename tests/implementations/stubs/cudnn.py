"""Stand-in for nvidia-cudnn-frontend: a graph with attention, computed by definition when executed."""

from __future__ import annotations

import types
from typing import Any

import torch
from reference import attend

data_type = types.SimpleNamespace(HALF=torch.float16, BFLOAT16=torch.bfloat16, FLOAT=torch.float32)
heur_mode = types.SimpleNamespace(A="A", FALLBACK="FALLBACK")


def create_handle() -> str:
    """Return a placeholder for a handle."""
    return "handle"


class Node:
    """A tensor of the graph, whose setters return it."""

    def __init__(self, **described: Any) -> None:
        self.described = described

    def set_output(self, value: bool) -> Node:
        return self._with(output=value)

    def set_dim(self, dim: list[int]) -> Node:
        return self._with(dim=dim)

    def set_stride(self, stride: list[int]) -> Node:
        return self._with(stride=stride)

    def _with(self, **described: Any) -> Node:
        self.described |= described
        return self


class pygraph:  # noqa: N801 - cuDNN's name
    """A graph with one operation, which can be executed once it was built in the documented order."""

    def __init__(self, *, io_data_type: Any, intermediate_data_type: Any, compute_data_type: Any, handle: Any) -> None:
        assert (intermediate_data_type, compute_data_type, handle) == (torch.float32, torch.float32, "handle")
        self.io, self.steps = io_data_type, list[str]()

    def tensor(self, *, name: str, dim: list[int], stride: list[int], data_type: Any) -> Node:
        assert data_type == self.io
        return Node(name=name, dim=dim, stride=stride)

    def sdpa(
        self, *, name: str, q: Node, k: Node, v: Node, attn_scale: float, generate_stats: bool,
        use_causal_mask: bool = False, use_causal_mask_bottom_right: bool = False,
    ) -> tuple[Node, None]:  # fmt: skip
        assert not generate_stats
        assert not (use_causal_mask and use_causal_mask_bottom_right)
        self.inputs, self.scale, self.out = (q, k, v), attn_scale, Node(name=name)
        self.causal, self.top_left = use_causal_mask or use_causal_mask_bottom_right, use_causal_mask
        return self.out, None

    def __getattr__(self, step: str) -> Any:
        if step not in ("validate", "build_operation_graph", "create_execution_plans", "check_support", "build_plans"):
            raise AttributeError(step)
        return lambda *arguments: self.steps.append(step)

    def get_workspace_size(self) -> int:
        return 16

    def execute(self, tensors: dict[Node, Any], workspace: Any, *, handle: Any) -> None:
        order = ["validate", "build_operation_graph", "create_execution_plans", "check_support", "build_plans"]
        assert (self.steps, handle, workspace.numel()) == (order, "handle", 16)
        for node, tensor in tensors.items():
            assert (list(tensor.shape), list(tensor.stride())) == (node.described["dim"], node.described["stride"])
        inputs = [tensors[node] for node in self.inputs]
        out, _ = attend(*inputs, scale=self.scale, causal=self.causal, top_left=self.top_left)
        tensors[self.out].copy_(out)
