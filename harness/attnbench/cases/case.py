"""One attention problem, fully specified.

A :class:`Case` is the semantics: it defines the reference answer, the floating-point operations and the bytes.
Nothing in it says how to compute; that is an implementation's business.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from typing import TYPE_CHECKING, Literal, get_args

from attnbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Operator = Literal["attention", "multi_head_attention"]
Mode = Literal["forward", "backward", "forward_backward"]
DType = Literal["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"]
Mask = Literal["none", "causal", "sliding_window", "prefix_lm", "document", "key_padding"]
Alignment = Literal["top_left", "bottom_right"]
ScoreMod = Literal["none", "softcap", "alibi", "relative_bias", "sink"]
KVCache = Literal["dense", "paged"]
Strides = Literal["contiguous", "transposed", "qkv_slice", "sliced", "expanded_kv", "summed"]
InputFamily = Literal[
    "normal",
    "needle",
    "retrieval",
    "outlier",
    "large_logits",
    "negative_logits",
    "constant",
    "ties",
    "tiny",
    "huge",
]

CHOICES: dict[str, tuple[str, ...]] = {
    "operator": get_args(Operator),
    "mode": get_args(Mode),
    "dtype": get_args(DType),
    "mask": get_args(Mask),
    "alignment": get_args(Alignment),
    "score_mod": get_args(ScoreMod),
    "kv_cache": get_args(KVCache),
    "strides": get_args(Strides),
}
INPUT_FAMILIES: tuple[str, ...] = get_args(InputFamily)
FILE_INPUTS = "file:"  # inputs = "file:captured.npz" takes the tensors from a file

DTYPE_BYTES: dict[str, int] = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}


class CaseError(UsageError):
    """The fields do not make an attention problem. ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An attention problem. Make one with :func:`make_case`, which fills defaults in and checks.

    Fields that the problem does not use are ``None``, so that two descriptions of the same problem are equal.
    """

    operator: Operator
    mode: Mode
    batch: int
    heads_q: int
    heads_kv: int
    seqlen_q: int
    seqlen_kv: int
    head_dim: int
    head_dim_v: int
    dtype: DType
    mask: Mask
    alignment: Alignment
    window_left: int | None
    """Sliding window: how many keys to the left of the diagonal a query sees (the diagonal itself comes on top)."""
    window_right: int | None
    """Sliding window: how many keys to the right of the diagonal."""
    prefix_len: int | None
    """Prefix LM: every query sees the first ``prefix_len`` keys, the rest is causal."""
    document_lengths: tuple[int, ...] | None
    """Document mask: lengths of the sequences packed one behind the other; they sum to ``seqlen_q``."""
    document_causal: bool | None
    """Document mask: causal within each document."""
    kv_lengths: tuple[int, ...] | None
    """Key padding: how many keys are real, for each batch element."""
    score_mod: ScoreMod
    softcap: float | None
    """Scores become ``softcap * tanh(score / softcap)``, after scaling and before masking."""
    scale: float
    kv_cache: KVCache
    page_size: int | None
    strides: Strides
    """How the inputs lie in memory, relative to the layout that the implementation declares. ``transposed`` is the
    upstream gradient too; ``summed`` is it alone: a single one, expanded, which is the gradient of ``.sum()``."""
    inputs: str
    """An input family, or ``file:PATH`` of an ``.npz`` with arrays ``q``, ``k``, ``v`` (and ``dout``)."""
    seed: int

    @property
    def case_id(self) -> str:
        """Twelve hexadecimal digits that name this problem, the same on every machine."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def diagonal_offset(self) -> int:
        """Query ``i`` stands at key position ``i + diagonal_offset``."""
        return self.seqlen_kv - self.seqlen_q if self.alignment == "bottom_right" else 0

    @property
    def embed_dim(self) -> int:
        """Width of the model around a ``multi_head_attention``: ``heads_q * head_dim``."""
        return self.heads_q * self.head_dim

    @property
    def needs_gradients(self) -> bool:
        """Whether the case asks for dQ, dK and dV."""
        return self.mode != "forward"

    @property
    def output_dtype(self) -> DType:
        """What the output comes in: the inputs' type, but bfloat16 for float8."""
        return "bfloat16" if self.dtype == "float8_e4m3fn" else self.dtype

    def to_dict(self) -> dict[str, object]:
        """All fields, JSON-ready; :func:`make_case` turns it back."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def label(self) -> str:
        """One short line for people, such as ``forward b1 h8:2 s128x256 d64 bfloat16 causal``."""
        heads = f"h{self.heads_q}" if self.heads_q == self.heads_kv else f"h{self.heads_q}:{self.heads_kv}"
        lengths = f"s{self.seqlen_q}" if self.seqlen_q == self.seqlen_kv else f"s{self.seqlen_q}x{self.seqlen_kv}"
        dims = f"d{self.head_dim}" if self.head_dim == self.head_dim_v else f"d{self.head_dim}:{self.head_dim_v}"
        parts = [self.mode, f"b{self.batch}", heads, lengths, dims, self.dtype]
        if self.operator != "attention":
            parts.insert(0, self.operator)
        if self.mask != "none":
            parts.append(self.mask)
        if self.mask == "sliding_window":
            parts.append(f"w{self.window_left}+{self.window_right}")
        if self.alignment != "top_left":
            parts.append(self.alignment)
        for value, quiet in ((self.score_mod, "none"), (self.kv_cache, "dense"), (self.strides, "contiguous")):
            if value != quiet:
                parts.append(value)
        if self.inputs != "normal":
            parts.append(self.inputs)
        return " ".join(parts)


DEFAULTS: dict[str, object] = {
    "operator": "attention",
    "mode": "forward",
    "batch": 1,
    "heads_q": 8,
    "heads_kv": None,  # heads_q
    "seqlen_q": 1024,
    "seqlen_kv": None,  # seqlen_q
    "head_dim": 64,
    "head_dim_v": None,  # head_dim
    "dtype": "float32",
    "mask": "none",
    "alignment": "top_left",
    "window_left": 256,
    "window_right": 0,
    "prefix_len": None,  # a quarter of the keys
    "document_lengths": None,  # four documents, about 1 : 2 : 3 : 4
    "document_causal": False,
    "kv_lengths": None,  # from all the keys down to half of them
    "score_mod": "none",
    "softcap": 50.0,
    "scale": None,  # 1 / sqrt(head_dim)
    "kv_cache": "dense",
    "page_size": 16,
    "strides": "contiguous",
    "inputs": "normal",
    "seed": 0,
}

FIELDS: tuple[str, ...] = tuple(DEFAULTS)
FOLLOWS: dict[str, str] = {"heads_kv": "heads_q", "seqlen_kv": "seqlen_q", "head_dim_v": "head_dim"}
"""Fields whose default is the value of another."""
_SIZES = ("batch", "heads_q", "heads_kv", "seqlen_q", "seqlen_kv", "head_dim", "head_dim_v")


def make_case(**given: object) -> Case:
    """Fill defaults in, drop what the problem does not use, and check.

    Raises:
        CaseError: with one sentence for each mistake, all of them at once.
    """
    problems = [f"unknown field {name!r}" for name in given if name not in DEFAULTS]
    fields = {**DEFAULTS, **{name: value for name, value in given.items() if name in DEFAULTS}}
    problems += _wrong_choices(fields) + _wrong_numbers(fields)
    if problems:
        raise CaseError(problems)
    for name, other in FOLLOWS.items():
        fields[name] = fields[other] if fields[name] is None else fields[name]
    _resolve(fields)
    problems = _contradictions(fields)
    if problems:
        raise CaseError(problems)
    return Case(**fields)  # type: ignore[arg-type]  # checked above, one sentence for each field


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong_choices(fields: Mapping[str, object]) -> list[str]:
    problems = [
        f"{name} = {fields[name]!r} is none of {', '.join(choices)}"
        for name, choices in CHOICES.items()
        if fields[name] not in choices
    ]
    inputs = fields["inputs"]
    if not isinstance(inputs, str) or (inputs not in INPUT_FAMILIES and not inputs.startswith(FILE_INPUTS)):
        problems.append(f"inputs = {inputs!r} is none of {', '.join(INPUT_FAMILIES)}, nor file:PATH")
    return problems


def _wrong_numbers(fields: Mapping[str, object]) -> list[str]:
    problems: list[str] = []
    for name in (*_SIZES, "page_size"):
        value = fields[name]
        if value is None and (name in FOLLOWS or name == "page_size"):
            continue
        if not _is_int(value) or value < 1:  # type: ignore[operator]
            problems.append(f"{name} = {value!r} is not a positive integer")
    for name in ("window_left", "window_right", "prefix_len", "seed"):
        value = fields[name]
        if value is not None and (not _is_int(value) or value < 0):  # type: ignore[operator]
            problems.append(f"{name} = {value!r} is not an integer >= 0")
    for name in ("softcap", "scale"):
        value = fields[name]
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            problems.append(f"{name} = {value!r} is not a finite number > 0")
    for name in ("document_lengths", "kv_lengths"):
        value = fields[name]
        if value is not None and not (isinstance(value, list | tuple) and value and all(_is_int(n) for n in value)):
            problems.append(f"{name} = {value!r} is not a list of integers")
    if not isinstance(fields["document_causal"], bool | None):
        problems.append(f"document_causal = {fields['document_causal']!r} is not true or false")
    return problems


def _resolve(fields: dict[str, object]) -> None:
    """Give every field of this problem its value, and ``None`` to those which the problem does not use."""
    mask, batch = fields["mask"], fields["batch"]
    seqlen_q, seqlen_kv = fields["seqlen_q"], fields["seqlen_kv"]
    assert isinstance(batch, int)
    assert isinstance(seqlen_q, int)
    assert isinstance(seqlen_kv, int)
    if fields["scale"] is None:
        fields["scale"] = 1.0 / math.sqrt(fields["head_dim"])  # type: ignore[arg-type]
    fields["scale"] = float(fields["scale"])  # type: ignore[arg-type]
    if mask == "sliding_window":
        fields["window_left"] = 256 if fields["window_left"] is None else fields["window_left"]
        fields["window_right"] = 0 if fields["window_right"] is None else fields["window_right"]
    else:
        fields["window_left"] = fields["window_right"] = None
    if mask != "prefix_lm":
        fields["prefix_len"] = None
    elif fields["prefix_len"] is None:
        fields["prefix_len"] = max(1, seqlen_kv // 4)
    if mask == "document":
        fields["document_lengths"] = tuple(fields["document_lengths"] or _packed(seqlen_q))  # type: ignore[arg-type]
        fields["document_causal"] = bool(fields["document_causal"])
    else:
        fields["document_lengths"] = fields["document_causal"] = None
    if mask == "key_padding":
        fields["kv_lengths"] = tuple(fields["kv_lengths"] or _padded(batch, seqlen_kv))  # type: ignore[arg-type]
    else:
        fields["kv_lengths"] = None
    fields["softcap"] = float(fields["softcap"] or 50.0) if fields["score_mod"] == "softcap" else None  # type: ignore[arg-type]
    fields["page_size"] = (fields["page_size"] or 16) if fields["kv_cache"] == "paged" else None
    diagonal = mask in ("causal", "sliding_window", "prefix_lm") or fields["score_mod"] in ("alibi", "relative_bias")
    if seqlen_q == seqlen_kv or not diagonal:
        fields["alignment"] = "top_left"  # the corners coincide, or nothing hangs on the diagonal


def _packed(seqlen: int) -> tuple[int, ...]:
    """Four documents of unlike lengths, about 1 : 2 : 3 : 4 (fewer where the sequence is shorter than that)."""
    edges = sorted({0, seqlen // 10, 3 * seqlen // 10, 6 * seqlen // 10, seqlen})
    return tuple(b - a for a, b in itertools.pairwise(edges))


def _padded(batch: int, seqlen_kv: int) -> tuple[int, ...]:
    """Real keys for each batch element: all of them for the first, down to half for the last; 3/4 for one alone."""
    if batch == 1:
        return (max(1, 3 * seqlen_kv // 4),)
    return tuple(max(1, seqlen_kv - seqlen_kv * b // (2 * (batch - 1))) for b in range(batch))


def _contradictions(fields: Mapping[str, object]) -> list[str]:
    """What each field by itself allows but the fields together do not."""
    case = Case(**fields)  # type: ignore[arg-type]
    problems: list[str] = []
    if case.heads_q % case.heads_kv:
        problems.append(f"heads_q = {case.heads_q} is not a multiple of heads_kv = {case.heads_kv}")
    if case.mask == "document":
        if case.seqlen_q != case.seqlen_kv:
            problems.append(
                f"mask = 'document' packs one sequence: seqlen_q = {case.seqlen_q} "
                f"must equal seqlen_kv = {case.seqlen_kv}"
            )
        elif sum(case.document_lengths or ()) != case.seqlen_q or min(case.document_lengths or (0,)) < 1:
            problems.append(
                f"document_lengths = {list(case.document_lengths or ())} must be positive "
                f"and sum to seqlen_q = {case.seqlen_q}"
            )
    if case.kv_lengths is not None and (
        len(case.kv_lengths) != case.batch or min(case.kv_lengths) < 0 or max(case.kv_lengths) > case.seqlen_kv
    ):
        problems.append(
            f"kv_lengths = {list(case.kv_lengths)} must be {case.batch} (batch) lengths "
            f"of 0 to {case.seqlen_kv} (seqlen_kv)"
        )
    if case.prefix_len is not None and case.prefix_len > case.seqlen_kv:
        problems.append(f"prefix_len = {case.prefix_len} is beyond seqlen_kv = {case.seqlen_kv}")
    if case.dtype == "float8_e4m3fn" and case.mode != "forward":
        problems.append("dtype = 'float8_e4m3fn' has no gradients: mode must be 'forward'")
    if case.kv_cache == "paged" and (case.mode != "forward" or case.operator != "attention"):
        problems.append("kv_cache = 'paged' is for inference: mode must be 'forward' and operator 'attention'")
    if case.strides != "contiguous" and (case.operator != "attention" or case.kv_cache != "dense"):
        problems.append(f"strides = {case.strides!r} needs operator = 'attention' and kv_cache = 'dense'")
    if case.operator != "attention" and case.inputs in INPUT_FAMILIES and case.inputs != "normal":
        problems.append(
            f"inputs = {case.inputs!r} is a family of queries, keys and values: it needs operator = 'attention'"
        )
    if case.strides == "summed" and not case.needs_gradients:
        problems.append("strides = 'summed' is about the upstream gradient: mode must not be 'forward'")
    if case.strides == "qkv_slice" and not (case.seqlen_q == case.seqlen_kv and case.head_dim == case.head_dim_v):
        problems.append(
            "strides = 'qkv_slice' cuts Q, K and V out of one buffer: it needs equal lengths and equal head dims"
        )
    return problems
