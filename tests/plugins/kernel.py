"""Implementations of one's own, as a user writes them."""

import numpy as np

from attnbench import attention


@attention("mine/plain", framework="numpy")
def plain(q, k, v, case):
    scores = q @ k.swapaxes(-1, -2) * case.scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@attention("mine/wrong", framework="numpy")
def wrong(q, k, v, case):
    return plain(2 * q, k, v, case)
