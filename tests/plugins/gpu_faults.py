"""Faults that a run on a GPU must survive or catch: a broken context, an endless kernel, wrong results."""

import torch

from attnbench import attention


def healthy(q, k, v, case):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=case.scale, is_causal=case.mask == "causal")


@attention("faults/device-assert", device="cuda", dtypes=("bfloat16",))
def device_assert(q, k, v, case):
    """Reads beyond a tensor: the CUDA context is broken from here on."""
    k = k.index_select(2, torch.full((case.seqlen_kv,), 2**30, device=k.device))
    return healthy(q, k, v, case)


@attention("faults/endless", device="cuda", dtypes=("bfloat16",))
def endless(q, k, v, case):
    """Spins on the device for minutes."""
    torch.cuda._sleep(2**40)
    return healthy(q, k, v, case)


@attention("faults/last-key", device="cuda", dtypes=("bfloat16",))
def last_key(q, k, v, case):
    """Does not see the last key."""
    return healthy(q, k[:, :, :-1], v[:, :, :-1], case)


@attention("faults/unwritten", device="cuda", dtypes=("bfloat16",))
def unwritten(q, k, v, case):
    """Leaves the last query's row as the memory was."""
    out = torch.empty_like(q)
    out[:, :, :-1] = healthy(q, k, v, case)[:, :, :-1]
    return out


@attention("faults/remembered", device="cuda", dtypes=("bfloat16",))
def remembered(q, k, v, case):
    """Computes once and returns that again and again."""
    key = (q.data_ptr(), q.shape)
    if key not in _KEPT:
        _KEPT[key] = healthy(q, k, v, case)
    return _KEPT[key]


_KEPT = {}
