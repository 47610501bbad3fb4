"""Validation of a case: invalid values of single fields, and contradictions between fields."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.cases.choices import CHOICES, FOLLOWS, INPUT_FAMILIES, LARGEST, MAY_BE_ZERO
from attnbench.cases.counting import cannot_be_counted
from attnbench.cases.masks.table import PARAMETERS, kinds_of, mask_names
from attnbench.cases.score_mods import names_in
from attnbench.cases.tensors.source import FILE_INPUTS, mistake_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnbench.cases.case import Case

_MOST = {"batch": 2**20, "seed": 2**63 - 1}
"""Fields with another limit: some masks have a length per element of the batch, and a seed must fit into 64 bits."""
MOST_BIAS_PAIRS = 2**23
"""The most query-key pairs of all heads for which a bias's gradient is judged: 8 heads of 1024 queries and keys."""
_MAY_BE_ABSENT = ("inputs_layout", "kv_dtype")
_SIZES = ("batch", "heads_q", "heads_kv", "seqlen_q", "seqlen_kv", "head_dim", "head_dim_v")


def wrong_values(fields: Mapping[str, object]) -> list[str]:
    """Return a sentence for each invalid value.

    Args:
        fields: all fields of a case, as given or by default.
    """
    return _too_large(fields) or _wrong_choices(fields) + _wrong_numbers(fields)


def too_large(name: str, value: object) -> str | None:
    """Return a sentence if an integer is above its field's limit, else ``None``."""
    most = _MOST.get(name, LARGEST)
    if _is_int(value) and value > most:  # type: ignore[operator]  # it is an integer
        return f"{name} is larger than {most:,}, the largest that attnbench accepts"
    return None


def _too_large(fields: Mapping[str, object]) -> list[str]:
    problems = []
    for name, value in fields.items():
        items = (value,) if isinstance(value, int) else value if isinstance(value, list | tuple) else ()
        if any(isinstance(item, int) and item > _MOST.get(name, LARGEST) for item in items):
            problems += [problem for item in items if (problem := too_large(name, item))][:1]
    return problems


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong_choices(fields: Mapping[str, object]) -> list[str]:
    chosen = [(name, fields[name]) for name in CHOICES if name not in ("mask", "score_mod", *_MAY_BE_ABSENT)]
    chosen += [(name, fields[name]) for name in _MAY_BE_ABSENT if fields[name] is not None]
    mask = fields["mask"]
    chosen += [("mask", name) for name in (mask_names(mask) if isinstance(mask, str) else (mask,))]
    mods = fields["score_mod"]
    chosen += [("score_mod", name) for name in (names_in(mods) if isinstance(mods, str) else (mods,))]
    problems = [
        f"{name} = {value!r} is none of {', '.join(CHOICES[name])}"
        for name, value in chosen
        if value not in CHOICES[name]
    ]
    inputs = fields["inputs"]
    if not isinstance(inputs, str) or (inputs not in INPUT_FAMILIES and not inputs.startswith(FILE_INPUTS)):
        problems.append(f"inputs = {inputs!r} is none of {', '.join(INPUT_FAMILIES)}, nor file:PATH")
    bias = fields["bias_file"]
    if bias is not None and (mistake := mistake_in(bias)):
        problems.append(f"bias_file = {bias!r} {mistake}")
    if not isinstance(asked := fields["bias_grad"], bool | None):
        problems.append(f"bias_grad = {asked!r} is not true or false")
    return problems


def _wrong_numbers(fields: Mapping[str, object]) -> list[str]:
    problems: list[str] = []
    for name in (*_SIZES, "page_size"):
        value = fields[name]
        if value is None and (name in FOLLOWS or name == "page_size"):
            continue
        if not _is_int(value) or value < (name not in MAY_BE_ZERO):  # type: ignore[operator]
            least = "an integer >= 0" if name in MAY_BE_ZERO else "a positive integer"
            problems.append(f"{name} = {value!r} is not {least}")
    if not _is_int(fields["seed"]) or fields["seed"] < 0:  # type: ignore[operator]
        problems.append(f"seed = {fields['seed']!r} is not an integer >= 0")
    for name in ("softcap", "scale"):
        value = fields[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            problems.append(f"{name} = {value!r} is not a finite number > 0")
    p = fields["dropout"]
    if p is not None and (isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p < 1):
        problems.append(f"dropout = {p!r} is not a probability from 0 to below 1")
    given = [(parameter, fields[name]) for name, parameter in PARAMETERS.items() if fields[name] is not None]
    problems += [problem for parameter, value in given if (problem := parameter.problem(value))]
    return problems


def contradictions(case: Case) -> list[str]:
    """Return a sentence for each contradiction between fields."""
    problems: list[str] = []
    if case.heads_q % case.heads_kv:
        problems.append(f"heads_q = {case.heads_q} is not a multiple of heads_kv = {case.heads_kv}")
    problems += [problem for kind in kinds_of(case.mask) for problem in kind.problems(case)]
    problems += [problem] if not problems and (problem := cannot_be_counted(case)) else []
    if case.dtype == "float8_e4m3fn" and case.mode != "forward":
        problems.append("dtype = 'float8_e4m3fn' has no gradients: mode must be 'forward'")
    if case.kv_cache != "dense" and (case.mode != "forward" or case.operator != "attention"):
        cache = f"kv_cache = {case.kv_cache!r}"
        problems.append(f"{cache} is for inference: mode must be 'forward' and operator 'attention'")
    if case.kv_cache == "latent":
        problems += _no_latent(case)
    problems += _of_quantised(case) if case.kv_dtype is not None else []
    problems += _of_bias_gradient(case) if case.bias_grad else []
    stored = (case.operator, case.kv_cache, case.kv_dtype, case.requests, case.dtype == "float8_e4m3fn")
    if case.dropout is not None and stored != ("attention", "dense", None, None, False):
        needs = "operator = 'attention', kv_cache = 'dense', and neither ragged batches nor eight bits"
        problems.append(f"dropout = {case.dropout:g} is of training: it needs {needs}")
    if case.strides != "contiguous" and (case.operator != "attention" or case.kv_cache != "dense"):
        problems.append(f"strides = {case.strides!r} needs operator = 'attention' and kv_cache = 'dense'")
    if case.operator != "attention" and case.inputs in INPUT_FAMILIES and case.inputs != "normal":
        problems.append(
            f"inputs = {case.inputs!r} is a family of queries, keys and values: it needs operator = 'attention'"
        )
    if not (case.batch and case.seqlen_q and case.seqlen_kv) and case.inputs in INPUT_FAMILIES[1:]:
        problems.append(f"inputs = {case.inputs!r} needs queries and keys: batch, seqlen_q and seqlen_kv must not be 0")
    if case.strides == "summed" and not case.needs_gradients:
        problems.append("strides = 'summed' is about the upstream gradient: mode must not be 'forward'")
    if case.strides == "qkv_slice" and not (case.seqlen_q == case.seqlen_kv and case.head_dim == case.head_dim_v):
        problems.append(
            "strides = 'qkv_slice' cuts Q, K and V out of one buffer: it needs equal lengths and equal head dims"
        )
    return problems


def _no_latent(case: Case) -> list[str]:
    """Return a sentence for each reason why keys and values cannot share one tensor."""
    problems = []
    if case.head_dim_v > case.head_dim:
        wide = f"head_dim_v = {case.head_dim_v} must not be above head_dim = {case.head_dim}"
        problems.append(f"kv_cache = 'latent' takes values out of keys: {wide}")
    if case.inputs.startswith(FILE_INPUTS):
        problems.append("kv_cache = 'latent' stores one tensor: inputs must not be a file of keys and values")
    return problems


def _of_bias_gradient(case: Case) -> list[str]:
    """Return a sentence for each contradiction with ``bias_grad``."""
    problems = []
    if "bias" not in case.score_mods or case.mode == "forward" or case.operator != "attention":
        needs = "score_mod = 'bias', a mode with gradients and operator = 'attention'"
        problems.append(f"bias_grad = true is about the gradient of a bias: it needs {needs}")
    pairs = case.batch * case.heads_q * case.seqlen_q * case.seqlen_kv
    if pairs > MOST_BIAS_PAIRS:
        judged = f"batch * heads_q * seqlen_q * seqlen_kv is {pairs:,}, above {MOST_BIAS_PAIRS:,}"
        problems.append(f"bias_grad = true sums over all query-key pairs, and all are judged: {judged}")
    return problems


def _of_quantised(case: Case) -> list[str]:
    """Return a sentence for each contradiction with ``kv_dtype``."""
    said, problems = f"kv_dtype = {case.kv_dtype!r}", []
    if case.mode != "forward" or case.operator != "attention":
        problems.append(f"{said} is for inference: mode must be 'forward' and operator 'attention'")
    if case.kv_cache != "dense" or case.strides != "contiguous":
        problems.append(f"{said} needs kv_cache = 'dense' and strides = 'contiguous'")
    if case.dtype == "float8_e4m3fn":
        problems.append(f"{said} is computed in a higher precision: dtype must not be 'float8_e4m3fn'")
    return problems
