"""Messages of ranks that share a call, as their implementation tells them."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sends:
    """Messages of a call that meet the compute in the same way."""

    bytes: int
    """Bytes that all ranks together send."""
    rounds: int
    """Rounds, one after the other, in which a rank waits for others; messages that travel together are one round."""
    behind: float = 0.0
    """The share of a rank's compute that goes on while they travel, and can hide them."""
