"""One attention problem, fully specified.

A :class:`Case` is the semantics: it defines the reference answer, the floating-point operations and the bytes.
Nothing in it says how to compute; that is an implementation's business.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

from attnbench.cases.checks import contradictions, wrong_values
from attnbench.cases.choices import (
    FILE_FIELDS,
    FOLLOWS,
    MAY_BE_ZERO,
    Alignment,
    DType,
    InputsLayout,
    KVCache,
    KVDType,
    Mode,
    Operator,
    Strides,
)
from attnbench.cases.masks.table import PARAMETERS, canonical, kinds_of, mask_names
from attnbench.cases.requests import implied
from attnbench.cases.score_mods import canonical as in_order
from attnbench.cases.score_mods import names_in
from attnbench.cases.tensors.source import FILE_INPUTS, short, without_path
from attnbench.errors import UsageError


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
    mask: str
    """One kind of mask, or several joined by `` & ``: a key is seen where all of them show it."""
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
    tree_parents: tuple[int, ...] | None
    """Tree: the parent of each draft, an earlier one, or -1 for those that follow the context; drafts are the last
    tokens."""
    mask_file: str | None
    """Tensor mask: ``random:SEED``, or a file with an array ``mask``, broadcastable to (batch, 1, seqlen_q, seqlen_kv),
    True where a query sees a key."""
    score_mod: str
    """One modification of the scores, or several joined by `` & `` in the order in which they are applied."""
    softcap: float | None
    """Scores become ``softcap * tanh(score / softcap)``, after scaling and before masking."""
    bias_file: str | None
    """Bias: ``random:SEED``, or a file with an array ``bias``, broadcastable to (batch, heads_q, seqlen_q, seqlen_kv),
    which is added to the scaled scores; where it is -inf a key is hidden."""
    scale: float
    kv_cache: KVCache
    """How keys and values are stored. ``latent``: as one tensor whose first ``head_dim_v`` columns are the values: in
    multi-head latent attention with its up-projections absorbed into Q and the output."""
    page_size: int | None
    strides: Strides
    """How the inputs lie in memory, relative to the layout that the implementation declares. ``transposed`` is the
    upstream gradient too; ``summed`` is it alone: a single one, expanded, which is the gradient of ``.sum()``."""
    inputs: str
    """An input family, or ``file:PATH`` of arrays ``q``, ``k``, ``v`` (and ``dout``)."""
    inputs_layout: InputsLayout | None
    """The order of the axes in that file: (batch, heads, seqlen, head_dim), or tokens before heads."""
    seed: int
    kv_starts: tuple[int, ...] | None = None
    """Left padding: the first key that is real, for each batch element."""
    mask_block_size: int | None = None
    """Block-sparse mask: how many queries, and keys, a block has."""
    mask_blocks: str | None = None
    """Block-sparse mask: the blocks of keys that each block of queries sees. ``random:DENSITY%:SEED`` (so many of all,
    rounded, and at least those on the diagonal), ``local:NEAR:FIRST`` (so many on either side of the diagonal, and the
    first ones), or ``list:0/0+1/2``, a list for each block of queries."""
    kv_dtype: KVDType | None = None
    """The dtype that quantised K and V are stored in, see :mod:`attnbench.cases.quantised`; ``None``: they are not
    quantised. Either way the computation is in ``dtype`` or higher."""
    requests: str | None = None
    """Ragged: the requests of a serving batch, such as ``2q2k_32q1s1k`` (:mod:`attnbench.cases.requests`)."""
    bias_grad: bool | None = None
    """Whether the gradient of the bias is asked for, ``dbias``, summed over the axes along which the bias is broadcast;
    ``None``: it is not."""
    dropout: float | None = None
    """Probability that a weight is dropped behind the softmax; those that are kept are divided by 1 - p. The generator
    is the implementation's, which says what it kept (:mod:`attnbench.cases.dropout`)."""

    @property
    def case_id(self) -> str:
        """Twelve hexadecimal digits that name this problem, the same on every machine.

        A file counts by its content where that is known, and not by its path.
        """
        fields = {name: value for name, value in self.to_dict().items() if value is not None or name in _NULL_IN_IDS}
        fields |= {name: without_path(text) for name in FILE_FIELDS if isinstance(text := fields.get(name), str)}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        """The kinds that the mask is the intersection of; one, for most."""
        return mask_names(self.mask)

    @property
    def without(self) -> str | None:
        """The size that is 0, ``batch``, ``seqlen_q``, ``seqlen_kv`` or a document's; ``None`` where none is."""
        if self.document_lengths is not None and 0 in self.document_lengths and self.seqlen_q:
            return "the length of a document"
        return next((name for name in MAY_BE_ZERO if not getattr(self, name)), None)

    @property
    def score_mods(self) -> tuple[str, ...]:
        """The modifications of the scores; one, for most."""
        return names_in(self.score_mod)

    @property
    def on_diagonal(self) -> bool:
        """Whether the answer hangs on where the diagonal lies; in a ragged batch each request has its own."""
        if self.requests is not None:
            return False
        follows = not {"alibi", "relative_bias"}.isdisjoint(self.score_mods)
        return follows or any(kind.on_diagonal for kind in kinds_of(self.mask))

    @property
    def diagonal_offset(self) -> int:
        """Query ``i`` stands at key position ``i + diagonal_offset``."""
        return self.seqlen_kv - self.seqlen_q if self.alignment == "bottom_right" else 0

    @property
    def new_tokens(self) -> int | None:
        """The tokens that a step of a server adds: the queries of a ragged batch; ``None`` of other cases."""
        return None if self.requests is None else self.seqlen_q

    @property
    def embed_dim(self) -> int:
        """Width of the model around a ``multi_head_attention``: ``heads_q * head_dim``."""
        return self.heads_q * self.head_dim

    @property
    def needs_gradients(self) -> bool:
        """Whether the case asks for dQ, dK and dV."""
        return self.mode != "forward"

    @property
    def gradients(self) -> tuple[str, ...]:
        """The gradients that the case asks for, in the order in which a backward pass returns them."""
        names = ("dq", "dk", "dv", "dbias") if self.bias_grad else ("dq", "dk", "dv")
        return names if self.needs_gradients else ()

    @property
    def output_dtype(self) -> DType:
        """The dtype of the output: the inputs', but bfloat16 for float8."""
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
            parts.append(self.mask_label())
        if self.alignment != "top_left":
            parts.append(self.alignment)
        for value, quiet in ((self.score_mod, "none"), (self.kv_cache, "dense"), (self.strides, "contiguous")):
            if value != quiet:
                parts.append(value)
        if self.kv_dtype is not None:
            parts.append(f"{self.kv_dtype}-kv")
        if self.bias_file is not None:
            parts.append(short(self.bias_file))
        if self.bias_grad:
            parts.append("dbias")
        if self.dropout is not None:
            parts.append(f"dropout {self.dropout:g}")
        if self.inputs != "normal":
            parts.append(self.inputs_label())
        return " ".join(parts)

    def inputs_label(self) -> str:
        """The family, or the name of the file."""
        if not self.inputs.startswith(FILE_INPUTS):
            return self.inputs
        return FILE_INPUTS + short(self.inputs.removeprefix(FILE_INPUTS))

    def mask_label(self) -> str:
        """The mask and what tells it apart, such as ``sliding_window 128+0 & key_padding``."""
        return " & ".join(kind.label(self) for kind in kinds_of(self.mask))


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
    **{parameter.name: parameter.default for parameter in PARAMETERS.values()},
    "score_mod": "none",
    "softcap": 50.0,
    "bias_file": "random:0",
    "scale": None,  # 1 / sqrt(head_dim)
    "kv_cache": "dense",
    "page_size": 16,
    "strides": "contiguous",
    "inputs": "normal",
    "inputs_layout": None,  # bhsd, of a file
    "seed": 0,
    "kv_dtype": None,
    "bias_grad": None,
    "dropout": None,
}

FIELDS: tuple[str, ...] = tuple(DEFAULTS)
_NULL_IN_IDS = frozenset(
    ("window_left", "window_right", "prefix_len", "document_lengths", "document_causal", "kv_lengths", "softcap",
     "page_size")
)  # fmt: skip
"""Fields whose absence is part of a case's id. A field added since is part of it only where it has a value."""


def make_case(**given: object) -> Case:
    """Fill defaults in, drop what the problem does not use, and check.

    Raises:
        CaseError: with one sentence for each mistake, all of them at once.
    """
    problems = [f"unknown field {name!r}" for name in given if name not in DEFAULTS]
    fields = {**DEFAULTS, **implied(given.get("requests"))}
    fields |= {name: value for name, value in given.items() if name in DEFAULTS}
    problems += wrong_values(fields)
    if problems:
        raise CaseError(problems)
    for name, other in FOLLOWS.items():
        fields[name] = fields[other] if fields[name] is None else fields[name]
    _resolve(fields)
    case = Case(**fields)  # type: ignore[arg-type]  # checked above, one sentence for each field
    if case.seqlen_q == case.seqlen_kv or not case.on_diagonal:
        case = dataclasses.replace(case, alignment="top_left")  # the corners coincide, or nothing hangs on the diagonal
    problems = contradictions(case)
    if problems:
        raise CaseError(problems)
    return case


def _resolve(fields: dict[str, object]) -> None:
    """Give every field of this problem its value, and ``None`` to those which the problem does not use."""
    if fields["scale"] is None:
        fields["scale"] = 1.0 / math.sqrt(fields["head_dim"])  # type: ignore[arg-type]
    fields["scale"] = float(fields["scale"])  # type: ignore[arg-type]
    fields["score_mod"] = mods = in_order(str(fields["score_mod"]))
    fields["softcap"] = float(fields["softcap"] or 50.0) if "softcap" in names_in(mods) else None  # type: ignore[arg-type]
    fields["bias_file"] = (fields["bias_file"] or DEFAULTS["bias_file"]) if "bias" in names_in(mods) else None
    fields["bias_grad"] = fields["bias_grad"] or None
    fields["dropout"] = float(fields["dropout"]) if fields["dropout"] else None  # type: ignore[arg-type]
    of_file = str(fields["inputs"]).startswith(FILE_INPUTS)
    fields["inputs_layout"] = (fields["inputs_layout"] or "bhsd") if of_file else None
    fields["page_size"] = (fields["page_size"] or 16) if fields["kv_cache"] == "paged" else None
    fields["kv_dtype"] = None if fields["kv_dtype"] == "none" else fields["kv_dtype"]
    fields["mask"] = mask = canonical(str(fields["mask"]))
    batch, seqlen_q, seqlen_kv = (fields[name] for name in ("batch", "seqlen_q", "seqlen_kv"))
    used: dict[str, object] = dict.fromkeys(PARAMETERS)
    for kind in kinds_of(mask):
        defaults = {parameter.name: parameter.default for parameter in kind.parameters}
        defaults |= kind.lengths(batch, seqlen_q, seqlen_kv)  # type: ignore[arg-type]  # positive integers by now
        for name, default in defaults.items():
            value = default if fields[name] is None else fields[name]
            used[name] = PARAMETERS[name].canonical(value)
    fields |= used
