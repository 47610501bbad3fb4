"""Non-finite inputs: hidden ones have no effect, and a row that sees one has no defined answer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from attnbench.oracle.answer.arithmetic import Answer, Arithmetic, Plane, attend

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


def attend_where_determined(arithmetic: Arithmetic, case: Case, plane: Plane) -> Answer:
    """Compute :func:`attnbench.oracle.answer.arithmetic.attend`, with NaN where the answer is undefined.

    Undefined are the rows of ``out``, ``lse`` and ``dq`` whose query, upstream gradient or visible keys and values are
    not all finite, and the gradients of all keys that such a row sees. Hidden keys and values have no effect.
    """
    import torch

    given = [plane.q, plane.k, plane.v, *([] if plane.dout is None else [plane.dout])]
    if all(bool(torch.isfinite(tensor.sum())) for tensor in given):  # checking the sum takes a tenth of the time
        return attend(arithmetic, case, plane)
    finite_keys = torch.isfinite(plane.k).all(-1) & torch.isfinite(plane.v).all(-1)
    lost = ~torch.isfinite(plane.q).all(-1)
    if plane.dout is not None:
        lost |= ~torch.isfinite(plane.dout).all(-1)
    pairs = plane.q.shape[-2], plane.k.shape[-2]
    hidden = torch.zeros(pairs, dtype=torch.bool) if plane.hidden is None else plane.hidden
    lost |= (~hidden & ~finite_keys[..., None, :]).any(-1)
    reached = (~hidden & lost[..., None]).any(-2)
    answer = attend(
        arithmetic,
        case,
        dataclasses.replace(
            plane,
            q=_without(plane.q, lost),
            k=_without(plane.k, ~finite_keys),
            v=_without(plane.v, ~finite_keys),
            hidden=hidden | lost[..., None],
            dout=None if plane.dout is None else _without(plane.dout, lost),
        ),
    )
    if plane.keys is not None:
        reached = reached[..., plane.keys]
    return dataclasses.replace(
        answer,
        out=_without(answer.out, lost, torch.nan),
        lse=_without(answer.lse, lost, torch.nan),
        dq=None if answer.dq is None else _without(answer.dq, lost, torch.nan),
        dk=None if answer.dk is None else _without(answer.dk, reached, torch.nan),
        dv=None if answer.dv is None else _without(answer.dv, reached, torch.nan),
        dbias=None if answer.dbias is None else _without(answer.dbias, lost, torch.nan),
    )


def _without(tensor: Tensor, rows: Tensor, value: float = 0.0) -> Tensor:
    """Return a copy of the tensor with some rows set to a value."""
    import torch

    return torch.where(rows.reshape(*rows.shape, *(1,) * (tensor.ndim - rows.ndim)), value, tensor)
