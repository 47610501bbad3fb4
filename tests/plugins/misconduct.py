"""Implementations whose answer is right, or looks so, and that cheat or blunder in how they give it."""

import threading
import time

import torch

from attnbench import attention


def healthy(q, k, v, case):
    return torch.softmax(q @ k.transpose(-1, -2) * case.scale, -1) @ v


def misconduct(name):
    """Declare an implementation named for what it does."""
    return attention(f"misconduct/{name}", strides=("contiguous", "sliced"))


@misconduct("none")
def none(q, k, v, case):
    return healthy(q, k, v, case)


@misconduct("returns-its-input")
def returns_its_input(q, k, v, case):
    v.copy_(healthy(q, k, v, case))
    return v


BUFFERS = {}


@misconduct("reuses-its-output")
def reuses_its_output(q, k, v, case):
    return BUFFERS.setdefault(q.shape, torch.empty_like(q)).copy_(healthy(q, k, v, case))


@misconduct("takes-turns-with-two-outputs")
def takes_turns(q, k, v, case, plan):
    plan.reverse()
    return plan[0].copy_(healthy(q, k, v, case))


@takes_turns.prepare
def two_outputs(case, operands):
    return [torch.empty(operands.q.shape) for _ in range(2)]


SLOW = {"outputs": []}


@misconduct("takes-turns-in-slow-calls")
def takes_turns_slowly(q, k, v, case):
    """Called so few times that its third output meets the first one only on fresh inputs."""
    time.sleep(0.02)
    SLOW["outputs"] = (SLOW["outputs"] or [torch.empty(q.shape), torch.empty(q.shape)])[::-1]
    return SLOW["outputs"][0].copy_(healthy(q, k, v, case))


@misconduct("writes-into-q")
def writes_into_q(q, k, v, case):
    out = healthy(q, k, v, case)
    q *= case.scale
    return out


@misconduct("writes-behind-q")
def writes_behind_q(q, k, v, case):
    out = healthy(q, k, v, case)
    beyond = q.as_strided((1,), (1,), q.storage_offset() + q.shape[2] * q.shape[3])  # the first token behind the slice
    beyond.fill_(0)
    return out


@misconduct("goes-on-after-it-returned")
def goes_on(q, k, v, case):
    out = torch.zeros(q.shape)

    def later():
        time.sleep(0.2)
        out.copy_(healthy(q, k, v, case))

    threading.Thread(target=later).start()
    return out


class Lazy(torch.Tensor):
    pass


@misconduct("returns-a-lazy-tensor")
def lazy(q, k, v, case):
    return healthy(q, k, v, case).as_subclass(Lazy)


@misconduct("returns-what-is-not-negated-yet")
def not_negated(q, k, v, case):
    return torch._neg_view(-healthy(q, k, v, case))


@misconduct("returns-a-sparse-tensor")
def sparse(q, k, v, case):
    return healthy(q, k, v, case).to_sparse()


@misconduct("returns-a-nested-tensor")
def nested(q, k, v, case):
    return torch.nested.nested_tensor(list(healthy(q, k, v, case)))


@misconduct("returns-a-tensor-of-another-device")
def elsewhere(q, k, v, case):
    return healthy(q, k, v, case).to("meta")


@misconduct("leaves-a-row-unwritten")
def unwritten(q, k, v, case):
    out = torch.empty(q.shape)
    out[..., :-1, :] = healthy(q, k, v, case)[..., :-1, :]
    return out


RESULTS = {}


@misconduct("returns-what-it-returned-before")
def returns_before(q, k, v, case):
    key = (q.data_ptr(), q.shape)
    if key not in RESULTS:
        RESULTS[key] = healthy(q, k, v, case)
    return RESULTS[key].clone()


@misconduct("packs-k-once")
def packs(q, k, v, case, plan):
    return healthy(q, plan, v, case)


@packs.prepare
def pack_k(case, operands):
    return operands.k.clone()


CALLS = {"made": 0}


@misconduct("stale-after-twenty")
def stale(q, k, v, case):
    """Looks at its inputs so often that it sees the timed ones, and then no more."""
    CALLS["made"] += 1
    fresh = ("v", float(k[0, 0, 0, 0]))  # another repetition has other keys; a turn changes values alone
    if fresh not in RESULTS:
        RESULTS[fresh] = healthy(q, k, v, case)
    return RESULTS[fresh].clone()
