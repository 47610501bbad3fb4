"""Finds the projections of an attention module by their names, and copies a case's weights into them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.cases.inputs.operands import operand_shapes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from attnbench.cases.case import Case
    from attnbench.registry.operands import Operands

_NAMES: dict[str, tuple[str, ...]] = {
    "w_q": ("q_proj", "query", "to_q", "wq", "w_q", "q_lin", "q", "q_proj_weight"),
    "w_k": ("k_proj", "key", "to_k", "wk", "w_k", "k_lin", "k", "k_proj_weight"),
    "w_v": ("v_proj", "value", "to_v", "wv", "w_v", "v_lin", "v", "v_proj_weight"),
    "w_o": ("o_proj", "out_proj", "to_out", "wo", "w_o", "out_lin", "o", "out", "proj", "dense", "c_proj"),
    "w_qkv": ("qkv", "qkv_proj", "in_proj", "to_qkv", "wqkv", "in_proj_weight"),
}
"""Names in torch, transformers, timm, diffusers and nanoGPT. A projection for all three stacks their rows in this
order."""
_BIASES = ("in_proj_bias",)


class UnknownParameterError(ValueError):
    """A parameter of the module has no known projection name, or a projection is missing."""


@dataclasses.dataclass(frozen=True)
class Projections:
    """The parameters of a module, all of them weights or biases of projections; loads a case's weights when called.

    Weights have the shape (out, in), as in ``nn.Linear``.
    """

    weights: dict[str, str]
    """Name of the parameter by operand; ``w_qkv`` is one for all three."""
    shapes: dict[str, tuple[int, ...]]
    biases: tuple[str, ...]

    def refusal(self, case: Case) -> str | None:
        """Return a sentence on how the case's sizes differ from the module's, or ``None``."""
        wanted = operand_shapes(case)
        for operand, own in self.shapes.items():
            parts = ("w_q", "w_k", "w_v") if operand == "w_qkv" else (operand,)
            due = (sum(wanted[part][1] for part in parts), wanted[parts[0]][0])
            if own != due:
                return f"the module's {self.weights[operand]} has shape {own}, the case needs {due}"
        return None

    def __call__(self, module: Module, operands: Operands) -> None:
        """Copy the weights of a case into the module, and set its biases to zero."""
        import torch

        parameters = dict(module.named_parameters())
        for operand, name in self.weights.items():
            parts = ("w_q", "w_k", "w_v") if operand == "w_qkv" else (operand,)
            given: list[Tensor] = [getattr(operands, part).T for part in parts]
            parameters[name].copy_(torch.cat(given))
        for name in self.biases:
            parameters[name].zero_()


def find_projections(module: Module) -> Projections:
    """Return all parameters of a module as projections.

    Raises:
        UnknownParameterError: if one has no known name, or a projection is missing.
    """
    weights: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    biases = []
    for name, parameter in module.named_parameters():
        operand = _operand_of(name)
        if name in _BIASES or (operand is not None and name.endswith(".bias")):
            biases.append(name)
            continue
        if operand is None or operand in weights or parameter.dim() != 2:
            raise UnknownParameterError(f"its parameter {name} is no projection that is known by its name")
        weights[operand] = name
        shapes[operand] = tuple(parameter.shape)
    needed = {"w_qkv", "w_o"} if "w_qkv" in weights else {"w_q", "w_k", "w_v", "w_o"}
    if weights.keys() != needed:
        missing = sorted(needed - weights.keys()) or sorted(weights.keys() - needed)
        raise UnknownParameterError(f"of its projections, {', '.join(missing)} is not known by its name")
    return Projections(weights, shapes, tuple(biases))


def _operand_of(name: str) -> str | None:
    """Return the operand of a parameter such as ``attn.q_proj.weight``, ``to_out.0.weight`` or ``in_proj_weight``."""
    parts = [part for part in name.removesuffix(".weight").removesuffix(".bias").split(".") if not part.isdigit()]
    last = parts[-1].lower()
    return next((operand for operand, names in _NAMES.items() if last in names), None)
