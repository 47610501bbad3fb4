"""PyTorch's ``context_parallel``, within which scaled_dot_product_attention is a ring (torch.distributed.tensor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench import attention

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench import Case


@attention(
    "context-parallel/torch",
    device=("cpu", "cuda"),
    dtypes=("float32", "float16", "bfloat16"),
    masks=("none", "causal"),
    modes=("forward", "backward", "forward_backward"),
    operators=("attention",),
    ranks=True,
    untested=True,
)
def context_parallel(q: Tensor, k: Tensor, v: Tensor, case: Case) -> Tensor:
    """PyTorch's context_parallel, which makes a ring of its own scaled_dot_product_attention."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import experimental
    from torch.nn import functional

    mesh = init_device_mesh(q.device.type, (dist.get_world_size(),))
    with experimental.context_parallel(mesh):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=case.mask == "causal", scale=case.scale)


@context_parallel.supports
def refusal(case: Case, device: str) -> str | None:
    """Return torch's own reason against a CPU, or ``None``."""
    if device != "cpu":
        return None
    import torch

    operator = "aten._scaled_dot_product_flash_attention_for_cpu"
    return f"torch {torch.__version__}: {operator} does not have a sharding strategy registered"
