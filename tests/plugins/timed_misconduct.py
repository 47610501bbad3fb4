"""Kernels that are right in every call that nothing times, which they tell by the garbage collector's being on."""

import gc
import os
import sys

import torch

from attnbench import attention


def timed_misconduct(name):
    return attention(f"timed/{name}", device="cpu", dtypes=["float32"], masks=["none"])


def healthy(q, k, v, calls=1):
    for _ in range(calls):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return out


def is_timed():
    return not gc.isenabled()


@timed_misconduct("none")
def none(q, k, v, case):
    return healthy(q, k, v)


@timed_misconduct("garbage-in-nine-samples")
def garbage(q, k, v, case, plan):
    sign = float(v[0, 0, 0, 0])
    if is_timed() and sign != plan["sign"]:
        plan["sign"], plan["samples"] = sign, plan["samples"] + 1
    return torch.empty_like(q) if is_timed() and plan["samples"] < 10 else healthy(q, k, v)


@garbage.prepare
def _no_sample_yet(case, operands):
    return {"sign": None, "samples": 0}


@timed_misconduct("keeps-its-weights")
def keeps_weights(q, k, v, case, plan):
    if not is_timed() or "weights" not in plan:
        plan["weights"] = torch.softmax(q @ k.transpose(-1, -2) * case.scale, -1)
    return plan["weights"] @ v


@keeps_weights.prepare
def _no_weights_yet(case, operands):
    return {}


@timed_misconduct("keeps-another-form-of-k")
def keeps_k(q, k, v, case, plan):
    if not is_timed() or "k" not in plan:
        plan["k"] = k.transpose(-1, -2).contiguous()
    return torch.softmax(q @ plan["k"] * case.scale, -1) @ v


@keeps_k.prepare
def _no_k_yet(case, operands):
    return {}


@timed_misconduct("follows-the-signs-of-v")
def follows_signs(q, k, v, case, plan):
    signs = torch.sign(v[:, :, :1, :1])
    if not is_timed() or "out" not in plan:
        plan["out"] = healthy(q, k, v) * signs
    return plan["out"] * signs


@follows_signs.prepare
def _no_output_yet(case, operands):
    return {}


@timed_misconduct("slows-the-clock")
def slows_clock(q, k, v, case):
    from attnbench.stages.time import samples

    if "slow" not in samples._CLOCK.__name__:
        real = samples._CLOCK

        def slow_clock():
            return real() // 4

        samples._CLOCK = slow_clock
    return healthy(q, k, v, calls=4)


@timed_misconduct("shortens-samples")
def shortens_samples(q, k, v, case):
    frame = sys._getframe()
    while frame:
        samples = frame.f_locals.get("samples")
        if isinstance(samples, list):
            samples[:] = [sample / 4 for sample in samples]
        frame = frame.f_back
    return healthy(q, k, v, calls=4)


@timed_misconduct("changes-samples-later")
def changes_samples(q, k, v, case):
    for window in gc.get_objects():
        if type(window).__name__ == "SampleWindow":
            window.samples[:] = [sample / 4 for sample in window.samples]
    return healthy(q, k, v)


@timed_misconduct("leaves-no-rows")
def leaves_no_rows(q, k, v, case):
    from attnbench.worker.sampled_rows import SampledRows

    SampledRows.add = lambda *arguments: None
    return healthy(q, k, v)


@timed_misconduct("keeps-its-inputs")
def keeps_inputs(q, k, v, case):
    """Once timed, it no longer lets inputs change."""
    from attnbench.worker.session import Session

    if is_timed():
        Session.next_sample = lambda self, moved=None: None
    return healthy(q, k, v)


@timed_misconduct("changes-its-shape")
def changes_shape(q, k, v, case):
    return healthy(q, k, v)[:, :, :1] if is_timed() else healthy(q, k, v)


REMEMBERED = {}


@timed_misconduct("remembers-by-writes")
def remembers(q, k, v, case):
    """No misconduct that could be seen in its results: torch counts the writes into each tensor."""
    key = (q.data_ptr(), q._version, k._version, v._version)
    if REMEMBERED.get("key") != key:
        REMEMBERED.update(key=key, out=healthy(q, k, v, calls=8))
    return REMEMBERED["out"].clone()


@timed_misconduct("takes-all-processors")
def takes_all(q, k, v, case):
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return healthy(q, k, v)
