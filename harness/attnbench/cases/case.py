"""One attention problem, fully specified.

A :class:`Case` holds the semantics alone: it determines the reference answer, the floating-point operations and the
bytes. How to compute them is up to the implementation.
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
    """The fields do not define an attention problem. ``problems`` has one sentence per mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An attention problem. Create one with :func:`make_case`, which fills in defaults and validates.

    Fields that the problem does not use are ``None``, so that two descriptions of the same problem compare equal.
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
    """One kind of mask, or several joined by `` & ``: a key is visible if all of them show it."""
    alignment: Alignment
    window_left: int | None
    """Sliding window: number of keys to the left of the diagonal that a query sees, besides the diagonal itself."""
    window_right: int | None
    """Sliding window: number of keys to the right of the diagonal that a query sees."""
    prefix_len: int | None
    """Prefix LM: every query sees the first ``prefix_len`` keys, the rest is causal."""
    document_lengths: tuple[int, ...] | None
    """Document mask: lengths of the packed sequences, in order; they sum to ``seqlen_q``."""
    document_causal: bool | None
    """Document mask: whether it is causal within each document."""
    kv_lengths: tuple[int, ...] | None
    """Key padding: number of real keys of each batch element."""
    tree_parents: tuple[int, ...] | None
    """Tree: index of each draft's parent, an earlier draft, or -1 for a child of the context. Drafts are the last
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
    which is added to the scaled scores; -inf hides a key."""
    scale: float
    kv_cache: KVCache
    """How keys and values are stored. ``latent``: as one tensor whose first ``head_dim_v`` columns are the values, as
    in multi-head latent attention with the up-projections absorbed into Q and the output."""
    page_size: int | None
    strides: Strides
    """Memory layout of the inputs, relative to the layout that the implementation declares. ``transposed`` includes the
    upstream gradient; ``summed`` is about it alone: a single 1, expanded, which is the gradient of ``.sum()``."""
    inputs: str
    """An input family, or ``file:PATH`` of arrays ``q``, ``k``, ``v`` (and ``dout``)."""
    inputs_layout: InputsLayout | None
    """Order of the axes in that file: ``bhsd``, (batch, heads, seqlen, head_dim), or ``bshd``, tokens before heads."""
    seed: int
    kv_starts: tuple[int, ...] | None = None
    """Left padding: index of the first real key of each batch element."""
    mask_block_size: int | None = None
    """Block-sparse mask: number of queries, and of keys, in a block."""
    mask_blocks: str | None = None
    """Block-sparse mask: the blocks of keys that each block of queries sees. ``random:DENSITY%:SEED`` (that share of
    all blocks, rounded, and at least those on the diagonal), ``local:NEAR:FIRST`` (NEAR blocks on either side of the
    diagonal, and the FIRST ones of the sequence), or ``list:0/0+1/2``, a list per block of queries."""
    kv_dtype: KVDType | None = None
    """Storage dtype of quantised K and V, see :mod:`attnbench.cases.quantised`; ``None``: they are not quantised.
    Either way the computation is in ``dtype`` or higher."""
    requests: str | None = None
    """Ragged mask: the requests of a serving batch, such as ``2q2k_32q1s1k`` (:mod:`attnbench.cases.requests`)."""
    bias_grad: bool | None = None
    """Whether the gradient of the bias, ``dbias``, is requested, summed over the axes along which the bias is
    broadcast; ``None``: it is not."""
    dropout: float | None = None
    """Probability p that a weight is dropped after the softmax; kept weights are divided by 1 - p. The implementation
    uses its own generator, and reports which weights it kept (:mod:`attnbench.cases.dropout`)."""

    @property
    def case_id(self) -> str:
        """Twelve hexadecimal digits that identify this problem, the same on every machine.

        A file is identified by the digest of its content if that is known, else by its path.
        """
        fields = {name: value for name, value in self.to_dict().items() if value is not None or name in _NULL_IN_IDS}
        fields |= {name: without_path(text) for name in FILE_FIELDS if isinstance(text := fields.get(name), str)}
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        """The kinds of masks that are intersected; usually one."""
        return mask_names(self.mask)

    @property
    def without(self) -> str | None:
        """Name of a size that is 0: ``batch``, ``seqlen_q``, ``seqlen_kv`` or a document's length; else ``None``."""
        if self.document_lengths is not None and 0 in self.document_lengths and self.seqlen_q:
            return "the length of a document"
        return next((name for name in MAY_BE_ZERO if not getattr(self, name)), None)

    @property
    def score_mods(self) -> tuple[str, ...]:
        """The modifications of the scores; usually one."""
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
        """Offset of the diagonal: query ``i`` is at key position ``i + diagonal_offset``."""
        return self.seqlen_kv - self.seqlen_q if self.alignment == "bottom_right" else 0

    @property
    def new_tokens(self) -> int | None:
        """Number of tokens that a server's step adds: the queries of a ragged batch; ``None`` for other cases."""
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
        """Names of the gradients that the case asks for, in the order in which a backward pass returns them."""
        names = ("dq", "dk", "dv", "dbias") if self.bias_grad else ("dq", "dk", "dv")
        return names if self.needs_gradients else ()

    @property
    def output_dtype(self) -> DType:
        """Dtype of the output: that of the inputs, but bfloat16 for float8."""
        return "bfloat16" if self.dtype == "float8_e4m3fn" else self.dtype

    def to_dict(self) -> dict[str, object]:
        """Return all fields, JSON-ready; :func:`make_case` is the inverse."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def label(self) -> str:
        """Return a short description for display, such as ``forward b1 h8:2 s128x256 d64 bfloat16 causal``."""
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
        """Return the input family, or ``file:`` and the name of the file."""
        if not self.inputs.startswith(FILE_INPUTS):
            return self.inputs
        return FILE_INPUTS + short(self.inputs.removeprefix(FILE_INPUTS))

    def mask_label(self) -> str:
        """Return the mask with its parameters, such as ``sliding_window 128+0 & key_padding``."""
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
"""Fields that enter the id even if they are ``None``. Fields added later enter it only with a value, which keeps the
ids of older cases."""


def make_case(**given: object) -> Case:
    """Fill in defaults, drop what the problem does not use, and validate.

    Raises:
        CaseError: if any field is wrong; it lists all mistakes, a sentence each.
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
    case = Case(**fields)  # type: ignore[arg-type]  # checked above, field by field
    if case.seqlen_q == case.seqlen_kv or not case.on_diagonal:
        case = dataclasses.replace(case, alignment="top_left")  # corners coincide, or nothing depends on the diagonal
    problems = contradictions(case)
    if problems:
        raise CaseError(problems)
    return case


def _resolve(fields: dict[str, object]) -> None:
    """Set every field that the problem uses to its final value, and the others to ``None``."""
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
