"""Requests of a ragged batch, computed apart from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attnbench.cases.case import make_case
from attnbench.cases.inputs.operands import OF_QUERIES
from attnbench.cases.masks.kinds.ragged import request_groups
from attnbench.cases.requests import Requests, written
from attnbench.identities.difference import difference
from attnbench.identities.identity import Arrays, Finding, Identity, Variant

if TYPE_CHECKING:
    from attnbench.cases.case import Case


class LastRequestAlone(Identity):
    """A request in a pack of its own gives the same."""

    def refuses(self, case: Case) -> str | None:
        """Where there are no other requests."""
        if case.requests is None:
            return "it is no ragged batch"
        return None if len(request_groups(case, one_by_one=True)) > 1 else "it is a single request"

    def variants(self, case: Case, inputs: Arrays) -> list[Variant]:
        """The last one, which is farthest from where the packs of queries and keys begin together."""
        places = _last(case)
        alone = {name: tensor[:, :, places[name in OF_QUERIES]] for name, tensor in inputs.items() if tensor.ndim == 4}
        requests = written((Requests(1, alone["q"].shape[2], alone["k"].shape[2]),))
        fields = {**case.to_dict(), "requests": requests, "seqlen_q": None, "seqlen_kv": None, "strides": "contiguous"}
        other = make_case(**{name: value for name, value in fields.items() if not name.startswith("seqlen")})
        return [Variant(case=other, inputs={**inputs, **alone}, what=f"the last request, {requests}, alone")]

    def findings(self, case: Case, inputs: Arrays, results: Arrays, others: list[Arrays]) -> list[Finding]:
        """Of every tensor, in the request's place."""
        del inputs
        places, found = _last(case), []
        for name, tensor in others[0].items():
            whole = results[name]
            filled = whole.astype(np.promote_types(tensor.dtype, whole.dtype), copy=True)
            filled[:, :, places[name in OF_QUERIES]] = tensor
            found.append(difference(name, filled, whole))
        return found


def _last(case: Case) -> dict[bool, slice]:
    """Where the last request lies: among queries (``True``), among keys."""
    last = request_groups(case, one_by_one=True)[-1]
    return {True: last.rows, False: last.columns}
