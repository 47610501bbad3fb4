"""Messages between ranks that share a call, as described by their implementation."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sends:
    """Messages of a call that overlap with compute in the same way."""

    bytes: int
    """Bytes sent by all ranks together."""
    rounds: int
    """Number of consecutive rounds in which a rank waits for others; messages that travel together are one round."""
    behind: float = 0.0
    """Share of a rank's compute that continues during the transfer, and can hide it."""
