"""Sees the attention calls of any torch program, and lets a handler answer them. The one seam of capture and use."""

from attnbench.interception.call import AttentionCall
from attnbench.interception.intercept import Handler, Unmatched, intercept

__all__ = ["AttentionCall", "Handler", "Unmatched", "intercept"]
