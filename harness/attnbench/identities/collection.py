"""All identities, cheap ones first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attnbench.identities.another_case import (
    AnotherSequenceBeside,
    FirstTokensAlone,
    KeyHeadsRepeated,
    KeysInTwoParts,
    LastQueriesAlone,
    LastRequestAlone,
    LastSequenceAlone,
    LatentExpanded,
)
from attnbench.identities.another_order import KeysInAnotherOrder, QueriesInAnotherOrder, ValuesOfOne
from attnbench.identities.sums import (
    KeyGradientsCancel,
    KeysFollowTheQueries,
    ValueGradientsAddUp,
    ValuesFollowTheOutput,
)

if TYPE_CHECKING:
    from attnbench.identities.identity import Identity

IDENTITIES: tuple[Identity, ...] = (
    ValuesFollowTheOutput(),
    KeysFollowTheQueries(),
    ValueGradientsAddUp(),
    KeyGradientsCancel(),
    ValuesOfOne(),
    QueriesInAnotherOrder(),
    KeysInAnotherOrder(),
    FirstTokensAlone(),
    LastQueriesAlone(),
    LastSequenceAlone(),
    AnotherSequenceBeside(),
    LastRequestAlone(),
    KeyHeadsRepeated(),
    KeysInTwoParts(),
    LatentExpanded(),
)


def name_of(identity: Identity) -> str:
    """Return the identity's name from its class, such as ``values-of-one``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(identity).__name__).lower()


def sentence_of(identity: Identity) -> str:
    """Return the statement that must hold: the first line of the docstring."""
    return (type(identity).__doc__ or "").partition("\n")[0].rstrip(".")
