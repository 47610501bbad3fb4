"""Mistakes that show only under a condition; everywhere else the result is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnbench.mutants.steps import Plan, Steps

if TYPE_CHECKING:
    from torch import Tensor

    from attnbench.cases.case import Case


class _WrongWhen(Steps):
    """The output is three percent too large if the condition holds."""

    def holds(self, case: Case) -> bool:
        """Whether the output is wrong for this case."""
        raise NotImplementedError

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        return (out * 1.03 if self.holds(case) else out), lse


class WrongInLargerBatches(_WrongWhen):
    """A row's value depends on how many sequences are computed with it."""

    copies = "Dao-AILab/flash-attention#1570"

    def holds(self, case: Case) -> bool:
        return case.batch > 1


class WrongBeyondFirstBatch(Steps):
    """Elements of a batch but the first are left at zero."""

    copies = "pytorch/pytorch#139462"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        import torch

        out, lse = super().forward(q, k, v, case, plan)
        return torch.cat([out[:1], out[1:] * 0]), lse


class WrongAtHalfTiles(_WrongWhen):
    """Wrong where the number of keys is 64 modulo 128."""

    copies = "pytorch/pytorch#196678"

    def holds(self, case: Case) -> bool:
        return case.seqlen_kv % 128 == 64


class WrongOneBeyondAVector(_WrongWhen):
    """Wrong where the number of keys is 1 modulo 32."""

    copies = "pytorch/pytorch#191937"

    def holds(self, case: Case) -> bool:
        return case.seqlen_kv % 32 == 1


class KeysBeyond65536Dropped(Steps):
    """Keys from the 65,537th on are not seen: their index has 16 bits."""

    copies = "pytorch/pytorch#162588"

    def masked(self, scores: Tensor, plan: Plan) -> Tensor:
        import torch

        scores = super().masked(scores, plan)
        beyond = torch.arange(scores.shape[-1]) >= 65536
        return scores.masked_fill(beyond, -torch.inf)


class WrongForLargeHeads(_WrongWhen):
    """Wrong for a head_dim above 128."""

    def holds(self, case: Case) -> bool:
        return case.head_dim > 128


class WrongForOddHeads(_WrongWhen):
    """Wrong for a head_dim that is not a multiple of 16."""

    def holds(self, case: Case) -> bool:
        return case.head_dim % 16 != 0


class WrongForWideValues(_WrongWhen):
    """Wrong where values are wider than keys."""

    def holds(self, case: Case) -> bool:
        return case.head_dim_v > case.head_dim


class WrongForOneQuery(_WrongWhen):
    """Wrong for a single query."""

    def holds(self, case: Case) -> bool:
        return case.seqlen_q == 1


class WrongForOneKey(_WrongWhen):
    """Wrong for a single key."""

    def holds(self, case: Case) -> bool:
        return case.seqlen_kv == 1


class WrongForOddLengths(_WrongWhen):
    """Wrong where the number of queries is odd."""

    copies = "NVIDIA/cudnn-frontend#160"

    def holds(self, case: Case) -> bool:
        return case.seqlen_q % 2 == 1 and case.seqlen_q > 1


class WrongForMoreQueriesThanKeys(_WrongWhen):
    """Wrong where there are more queries than keys."""

    copies = "Dao-AILab/flash-attention#895"

    def holds(self, case: Case) -> bool:
        return case.seqlen_q > case.seqlen_kv


class WrongForFewKeyHeads(_WrongWhen):
    """Wrong where fewer than eight key heads serve more query heads."""

    copies = "pytorch/pytorch#193893"

    def holds(self, case: Case) -> bool:
        return case.heads_kv < 8 and case.heads_kv < case.heads_q


class WrongInLowPrecision(_WrongWhen):
    """Wrong in 16 bits where there is a mask."""

    copies = "pytorch/pytorch#163588"

    def holds(self, case: Case) -> bool:
        return case.dtype in ("bfloat16", "float16") and case.mask != "none"


class NanWhereMaskedAndUnequal(Steps):
    """NaN in masked attention of unequal lengths."""

    copies = "pytorch/pytorch#124877"

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        return (out * float("nan") if plan.hidden is not None and case.seqlen_q != case.seqlen_kv else out), lse


class OverflowsAt88(Steps):
    """Rows with a score above 88 become infinite."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, case: Case, plan: Plan) -> tuple[Tensor, Tensor]:
        out, lse = super().forward(q, k, v, case, plan)
        return out.masked_fill((lse > 88.7)[..., None], float("inf")), lse
