"""Tensors of a model, in the layout and framework that an implementation declares, and its outputs back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.registry.implementation import Declaration, Framework

_VIEWS = {"transposed", "qkv_slice", "sliced"}


def must_be_copied(tensor: Tensor, said: Declaration) -> bool:
    """Whether a tensor in the declared layout lies in memory as the implementation does not declare."""
    if tensor.is_contiguous():
        return False
    declared = {*said.strides}
    tokens, heads = {"bhsd": (2, 1), "bshd": (1, 2), "packed": (0, 1)}[said.layout]
    if tensor.transpose(tokens, heads).is_contiguous():
        return "transposed" not in declared
    needed = _VIEWS | ({"expanded_kv"} if 0 in tensor.stride() else set())
    return tensor.stride(-1) != 1 or not needed <= declared


def to_framework(tensor: Tensor, framework: Framework) -> Any:
    """The same memory as the framework's array; JAX may copy."""
    if framework == "torch":
        return tensor
    array = tensor.detach().numpy()
    if framework == "numpy":
        return array
    import jax.numpy as jnp

    return jnp.asarray(array)


def to_torch(array: Any, like: Tensor) -> Tensor:
    """The output of an implementation, as a tensor.

    Raises:
        TypeError: when it is none.
    """
    import numpy as np
    import torch

    if isinstance(array, torch.Tensor):
        return array
    if not hasattr(array, "__array__"):
        raise TypeError(f"it returned {type(array).__name__}, not a tensor")
    return torch.from_numpy(np.array(array, copy=not isinstance(array, np.ndarray))).to(like.device)
