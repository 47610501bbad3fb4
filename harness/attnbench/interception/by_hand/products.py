"""Reads products of two tensors from the various functions that compute them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

PRODUCTS = frozenset(("matmul", "__matmul__", "bmm", "baddbmm", "einsum"))
"""Names of torch's functions that multiply two tensors, except those for plain matrices."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """``left @ right``, both with their batch axes first."""

    left: Tensor
    """(..., rows, inner)."""
    right: Tensor
    """(..., inner, columns)."""
    given: tuple[Tensor, Tensor]
    """Left and right as the program passes them."""
    added: tuple[Tensor, float] | None = None
    """A tensor that is added to the product, and its factor."""
    factor: float = 1.0
    is_in_order: bool = True
    """Whether the program asks for (..., rows, columns)."""
    to_program: Callable[[Tensor], Tensor] = lambda product: product
    """Permutes a product (..., rows, columns) to the order of axes that the program asks for."""
    from_program: Callable[[Tensor], Tensor] = lambda product: product
    """The inverse of ``to_program``."""


def product_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Product | None:
    """Return the product that a function in ``PRODUCTS`` computes; ``None`` unless it multiplies two tensors."""
    if kwargs.keys() - {"beta", "alpha"}:
        return None
    if name == "einsum":
        return _of_einsum(*args) if len(args) == 3 and isinstance(args[0], str) else None
    if name == "baddbmm" and len(args) == 3:
        more, left, right = args
        added = more, float(kwargs.get("beta", 1.0))
        return Product(left=left, right=right, given=(left, right), added=added, factor=float(kwargs.get("alpha", 1.0)))
    if len(args) != 2 or not all(isinstance(x, torch.Tensor) and x.dim() >= 2 for x in args):
        return None
    left, right = args
    return Product(left=left, right=right, given=(left, right))


def _of_einsum(equation: str, a: Any, b: Any) -> Product | None:
    """Return the product of an einsum over one axis of both operands, with every other axis in the result."""
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    operands = inputs.split(",")
    if not arrow or len(operands) != 2 or "." in equation:
        return None
    of_a, of_b = operands
    inner = [label for label in of_a if label in of_b and label not in out]
    batch = [label for label in out if label in of_a and label in of_b]
    rows = [label for label in of_a if label not in of_b]
    columns = [label for label in of_b if label not in of_a]
    if [len(inner), len(rows), len(columns)] != [1, 1, 1] or {*out} != {*batch, *rows, *columns}:
        return None
    whole = [*batch, *rows, *columns]
    order = [whole.index(label) for label in out]
    back = [out.index(label) for label in whole]
    return Product(
        left=a.permute([of_a.index(label) for label in (*batch, *rows, *inner)]),
        right=b.permute([of_b.index(label) for label in (*batch, *inner, *columns)]),
        given=(a, b),
        is_in_order=order == sorted(order),
        to_program=lambda product: product.permute(order),
        from_program=lambda product: product.permute(back),
    )
