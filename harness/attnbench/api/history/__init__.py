"""``attnbench.api.history``: ``attnbench history add``, ``show``, ``page``, ``find`` and ``bisect`` as functions."""

from __future__ import annotations

from attnbench.api.history.adding import add
from attnbench.api.history.reading import page, show
from attnbench.api.history.searching import bisect, find

__all__ = ["add", "bisect", "find", "page", "show"]
