"""Intercepts the attention calls of any torch program, and lets a handler answer them. Capture and use build on it."""

from attnbench.interception.call import AttentionCall
from attnbench.interception.handler import Handler, Unmatched
from attnbench.interception.intercept import intercept

__all__ = ["AttentionCall", "Handler", "Unmatched", "intercept"]
