"""Finds the tensors in a model's return value, and measures distances between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def float_tensors(returned: object) -> dict[str, Tensor]:
    """Return copies of the floating-point tensors in a model's return value by path, like ``logits`` or ``[0]``."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(returned, "") if tensor.is_floating_point()}


def _tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name or "output", value
        return
    parts: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{name}[{index}]", part) for index, part in enumerate(value)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(f"{name}.{f.name}" if name else f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    for path, part in parts:
        yield from _tensors(part, path)


@dataclasses.dataclass(frozen=True)
class Distance:
    """The distance between two tensors."""

    whole: float
    """Norm of the difference."""
    row: float
    """Largest norm of a row's difference; a row is the last axis."""


def distance(one: Tensor, other: Tensor, keep: Tensor | None = None) -> Distance:
    """Return the distance of two tensors; infinite if their shapes differ, or one has a NaN or infinity that differs.

    ``keep`` is True for rows that count; its shape is the tensor's without the last axis.
    """
    if one.shape != other.shape:
        return Distance(float("inf"), float("inf"))
    first, second = (_rows(x).double() for x in (one, other))
    if keep is not None:
        first, second = first[keep.reshape(-1)], second[keep.reshape(-1)]
    alike = (first == second) | (first.isnan() & second.isnan())
    norms = torch.where(alike, 0.0, first - second).square().sum(-1).sqrt().nan_to_num(nan=torch.inf)
    if norms.numel() == 0:
        return Distance(0.0, 0.0)
    return Distance(float(norms.square().sum().sqrt()), float(norms.max()))


def equal_rows(one: Tensor, other: Tensor) -> Tensor:
    """Return which rows have equal values or NaNs throughout; the shape is the tensors' without the last axis."""
    first, second = _rows(one), _rows(other)
    return ((first == second) | (first.isnan() & second.isnan())).all(-1)


def norm(tensor: Tensor) -> float:
    """Return the norm of a tensor; NaN and infinities count as 0."""
    return float(tensor.double().nan_to_num(posinf=0.0, neginf=0.0).norm())


def _rows(tensor: Any) -> Tensor:
    """Reshape a tensor to (rows, columns)."""
    rows: Tensor = tensor.reshape(-1, tensor.shape[-1]) if tensor.dim() > 0 else tensor.reshape(1, 1)
    return rows
