"""Declarations of implementations, and the decorator that makes them.

The decorator only turns a function into an :class:`Implementation` and fills no registry. Implementations are found by
looking into modules (:mod:`attnbench.registry.discover`), so importing one has no side effect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, get_args

from attnbench.cases.choices import CHOICES
from attnbench.cases.masks.table import canonical, mask_names
from attnbench.cases.score_mods import canonical as canonical_mods
from attnbench.cases.score_mods import names_in
from attnbench.errors import UsageError
from attnbench.registry.signature import SignatureError, documentation, file_of_caller, saying_so, takes_two, wants_plan
from attnbench.untrusted.pattern import pattern_mistake
from attnbench.untrusted.printable import in_one_line, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from attnbench.cases.case import Case
    from attnbench.registry.operands import Operands
    from attnbench.registry.sends import Sends

Framework = Literal["torch", "numpy", "jax"]
Layout = Literal["bhsd", "bshd", "packed"]
Memory = Literal["O(1)", "O(sqrt n)", "O(n)", "O(n^2)"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*/[a-z0-9][a-z0-9_.-]*")
_LONGEST_NAME = 100
_DEVICES = ("cpu", "cuda")
_ONE_BY_ONE: ContextVar[bool] = ContextVar("refusing_one_by_one", default=False)


class DeclarationError(UsageError):
    """An implementation declares something that attnbench does not know."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declaration:
    """Data that an implementation declares, JSON-ready, so that a listing needs none of a plug-in's code.

    Cases beyond the declaration are not run; the defaults claim as little as possible.
    """

    name: str
    """``family/variant`` in lower case."""
    summary: str
    """First line of the function's docstring."""
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    masks: tuple[str, ...]
    mask_intersections: bool
    """Whether the declared kinds of masks may be combined by `` & ``."""
    modes: tuple[str, ...]
    operators: tuple[str, ...]
    score_mods: tuple[str, ...]
    score_mod_combinations: bool
    """Whether the declared score modifications may be combined by `` & ``."""
    alignments: tuple[str, ...]
    """Alignments supported when ``seqlen_q != seqlen_kv``; empty means equal lengths only."""
    kv_caches: tuple[str, ...]
    kv_dtypes: tuple[str, ...]
    """Dtypes that K and V may be stored in. ``none`` is the case's own; quantised ones come with scales, see
    :class:`attnbench.registry.operands.Operands`."""
    strides: tuple[str, ...]
    empty: bool
    """Whether ``batch``, ``seqlen_q``, ``seqlen_kv`` and lengths of documents may be 0."""
    gqa: bool
    """Whether ``heads_kv < heads_q`` is supported."""
    unequal_head_dims: bool
    """Whether ``head_dim_v != head_dim`` is supported."""
    layout: Layout
    framework: Framework
    requires: tuple[str, ...]
    """Distributions that must be installed, such as ``xformers>=0.0.35``."""
    stores_scores: bool
    """Whether scores and their gradients are stored in the inputs' dtype on the way; fused kernels do not."""
    returns_lse: bool
    """Whether a call returns ``(out, lse)``; ``lse`` has shape (batch, heads_q, seqlen_q)."""
    memory: Memory | None
    """Claimed extra memory, as a law in the sequence length."""
    agreement_only: tuple[str, ...]
    """Devices on which it is checked but never timed, such as those of an interpreter."""
    untested: bool
    """Whether it was written from documentation and never run by its authors."""
    interpreter: str | None
    """Its own Python interpreter, if its dependencies conflict with others'."""
    ranks: bool = False
    """Whether it runs on several ranks of ``torch.distributed``, each with its share of the tokens."""
    bias_grad: bool = False
    """Whether the gradient of a bias is returned, see :attr:`attnbench.registry.operands.Operands.bias`."""
    dropout: tuple[str, ...] = ()
    """Devices on which it drops weights, see :mod:`attnbench.cases.dropout`; ``@f.kept`` returns those it kept."""

    def refuses(self, case: Case, device: str) -> str | None:
        """Return why the declaration does not cover this case, or ``None``."""
        for wanted, said, noun in (
            (device, self.devices, "device"),
            (case.operator, self.operators, "operator"),
            (case.mode, self.modes, "mode"),
            (case.dtype, self.dtypes, "dtype"),
            (case.kv_cache, self.kv_caches, "kv_cache"),
            (case.kv_dtype or "none", self.kv_dtypes, "kv_dtype"),
            (case.strides, self.strides, "strides"),
        ):
            if wanted not in said:
                return f"{noun} {wanted!r} is not declared (only {', '.join(said)})"
        if not self._takes_mask(case):
            also = "; nor is mask_intersections" if len(case.mask_kinds) > 1 and not self.mask_intersections else ""
            return f"mask {case.mask!r} is not declared (only {', '.join(self.masks)}{also})"
        if case.score_mod not in self.score_mods and not (
            self.score_mod_combinations and {*case.score_mods} <= {*self.score_mods}
        ):
            also = "; nor is score_mod_combinations" if len(case.score_mods) > 1 else ""
            return f"score_mod {case.score_mod!r} is not declared (only {', '.join(self.score_mods)}{also})"
        if case.bias_grad and not self.bias_grad:
            return "the gradient of the bias is asked for, and bias_grad is not declared"
        if case.dropout is not None and device not in self.dropout:
            return f"weights are to be dropped, and dropout is not declared on the device {device!r}"
        if not self.empty and (nothing := case.without):
            return f"{nothing} is 0, and empty is not declared"
        if case.heads_q != case.heads_kv and not self.gqa:
            return f"heads_kv = {case.heads_kv} != heads_q = {case.heads_q}, and gqa is not declared"
        if case.head_dim_v != case.head_dim and not self.unequal_head_dims:
            return (
                f"head_dim_v = {case.head_dim_v} != head_dim = {case.head_dim}, and unequal_head_dims is not declared"
            )
        if case.on_diagonal and case.seqlen_q != case.seqlen_kv and case.alignment not in self.alignments:
            said_so = f"only {', '.join(self.alignments)}" if self.alignments else "none is"
            return f"alignment {case.alignment!r} at seqlen_q != seqlen_kv is not declared ({said_so})"
        if self.layout == "packed" and case.seqlen_q != case.seqlen_kv and case.requests is None:
            return "layout 'packed' has one list of tokens for queries and keys: the lengths must be equal"
        return None

    def _takes_mask(self, case: Case) -> bool:
        return case.mask in self.masks or (self.mask_intersections and {*case.mask_kinds} <= {*self.masks})


class Implementation:
    """A way to compute attention: its declaration, its call and its hooks.

    The call is ``f(q, k, v, case)``, or ``f(q, k, v, case, plan)`` with a prepared plan, and returns the output or
    ``(output, lse)``. A fifth parameter with another name and a default is left alone. Tensors have the declared
    layout:

    - ``bhsd``: (batch, heads, seqlen, head_dim)
    - ``bshd``: (batch, seqlen, heads, head_dim)
    - ``packed``: (batch * seqlen, heads, head_dim)

    Optional hooks are attached with decorators:

    - ``@f.supports``: ``(case, device) -> str | None``, a reason not covered by the declaration. Runs in the worker.
    - ``@f.prepare``: ``(case, operands) -> plan``; masks, plans, compilation. Timed separately from the call.
    - ``@f.backward``: ``(dout, q, k, v, out, lse, case, plan) -> (dq, dk, dv)``, with ``bias_grad`` also ``dbias``;
      without it torch's autograd is used.
    - ``@f.kept``: ``(case, plan) -> mask`` of the last forward pass with ``dropout``: booleans of (batch, heads_q,
      seqlen_q, seqlen_kv) in any layout, true for weights that were kept.
    - ``@f.available``: ``() -> str | None``, why it cannot run on this machine. Must be quick and import nothing heavy.
    - ``@f.tokens``: ``(case, seqlen, rank, ranks) -> positions`` of the tokens that a rank holds, if it runs on several
      ranks; :func:`neighbours` by default.
    - ``@f.sends``: ``(case, ranks) -> [Sends, ...]``, the messages of a call; the counted bytes must be equal to these.
    - ``@f.backend``: ``(run) -> str`` or ``(run, plan) -> str``, the back end or kernel that actually runs when
      ``run()`` makes a call.

    :meth:`phases` describes functions of compiled libraries for ``attnbench profile``.
    """

    def __init__(self, declaration: Declaration, call: Callable[..., Any], file: str = "") -> None:
        self.declaration = declaration
        self.call = call
        self.file = file
        """The file that declares it: a path, or a notebook's replacement for one."""
        self.refused: str | None = None
        """Why it cannot be called, if it was loaded from a file with other implementations."""
        self._wants_plan: bool | None = None
        try:
            self._wants_plan = wants_plan(call)
        except SignatureError as error:
            self.refused = str(error)
        self.supports_hook: Callable[[Case, str], str | None] | None = None
        self.prepare_hook: Callable[[Case, Operands], Any] | None = None
        self.backward_hook: Callable[..., Any] | None = None
        self.kept_hook: Callable[[Case, Any], Any] | None = None
        self.available_hook: Callable[[], str | None] | None = None
        self.backend_hook: Callable[..., str] | None = None
        self.backend_takes_plan = False
        self.tokens_hook: Callable[[Case, int, int, int], Sequence[int]] = neighbours
        self.sends_hook: Callable[[Case, int], Sequence[Sends]] | None = None
        self.phase_table: dict[str, str | tuple[str, ...]] = {}
        """The table given to :meth:`phases`."""

    @property
    def takes_plan(self) -> bool:
        """Whether the call takes a plan; a call with any arguments takes one if there is a prepare hook."""
        return self.prepare_hook is not None if self._wants_plan is None else self._wants_plan

    def __call__(self, *args: Any) -> Any:
        """Call the function as it was written, so that it can be used and tested on its own."""
        return self.call(*args)

    def supports(self, hook: Callable[[Case, str], str | None]) -> Callable[[Case, str], str | None]:
        """Attach a hook that returns why a case is not supported."""
        self.supports_hook = saying_so("supports", hook)
        return hook

    def prepare(self, hook: Callable[[Case, Operands], Any]) -> Callable[[Case, Operands], Any]:
        """Attach a hook that runs once before many calls."""
        self.prepare_hook = hook
        return hook

    def backward(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Attach an explicit backward pass."""
        self.backward_hook = hook
        return hook

    def kept(self, hook: Callable[[Case, Any], Any]) -> Callable[[Case, Any], Any]:
        """Attach a hook that returns which weights the last forward pass kept."""
        self.kept_hook = hook
        return hook

    def available(self, hook: Callable[[], str | None]) -> Callable[[], str | None]:
        """Attach a hook that returns why it is not available on this machine."""
        self.available_hook = saying_so("available", hook)
        return hook

    def tokens(self, hook: Callable[[Case, int, int, int], Sequence[int]]) -> Callable[..., Sequence[int]]:
        """Attach a hook that returns which tokens a rank holds."""
        self.tokens_hook = hook
        return hook

    def sends(self, hook: Callable[[Case, int], Sequence[Sends]]) -> Callable[[Case, int], Sequence[Sends]]:
        """Attach a hook that returns what the ranks send."""
        self.sends_hook = hook
        return hook

    def backend(self, hook: Callable[..., str]) -> Callable[..., str]:
        """Attach a hook that returns which back end ran."""
        self.backend_hook = saying_so("backend", hook)
        self.backend_takes_plan = takes_two(hook)
        return hook

    def phases(self, table: Mapping[str, str | tuple[str, ...]]) -> None:
        """Assign phases to functions of compiled libraries, for profiles.

        Args:
            table: phases by regular expression, which is searched in ``library!function``. A phase is a name of
                :class:`attnbench.profiling.phases.Phase` for the function itself, or a tuple with that phase and those
                of the matrix products that it calls, in the order of the calls in the compiled code:
                ``("softmax", "qk", "pv")``. An empty name leaves the function itself to its instructions.

        Raises:
            DeclarationError: if a pattern is not a regular expression.
        """
        for pattern in table:
            mistake = pattern_mistake(pattern) if isinstance(pattern, str) else "it is no text"
            if mistake:
                raise DeclarationError(f"phases: {shown(pattern)} is no regular expression: {mistake}")
        self.phase_table |= table


def neighbours(case: Case, seqlen: int, rank: int, ranks: int) -> range:
    """Return a rank's contiguous share of the tokens; shares differ by at most one token."""
    del case
    return range(rank * seqlen // ranks, (rank + 1) * seqlen // ranks)


def attention(
    name: str,
    *,
    device: str | Sequence[str] = "cpu",
    dtypes: Sequence[str] = ("float32",),
    masks: Sequence[str] = ("none",),
    mask_intersections: bool = False,
    modes: Sequence[str] = ("forward",),
    operators: Sequence[str] = ("attention", "multi_head_attention"),
    score_mods: Sequence[str] = ("none",),
    score_mod_combinations: bool = False,
    alignments: Sequence[str] = (),
    kv_caches: Sequence[str] = ("dense",),
    kv_dtypes: Sequence[str] = ("none",),
    strides: Sequence[str] = ("contiguous",),
    empty: bool = False,
    gqa: bool = False,
    unequal_head_dims: bool = False,
    layout: Layout = "bhsd",
    framework: Framework = "torch",
    requires: Sequence[str] = (),
    stores_scores: bool = False,
    returns_lse: bool = False,
    memory: Memory | None = None,
    agreement_only: Sequence[str] = (),
    untested: bool = False,
    interpreter: str | None = None,
    ranks: bool = False,
    bias_grad: bool = False,
    dropout: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Implementation]:
    """Declare a function to be an implementation of attention. The arguments are the fields of :class:`Declaration`.

    A core implementation (operator ``attention``) also serves ``multi_head_attention``: the harness adds the
    projections around it.

    Raises:
        DeclarationError: if the name is malformed, a declared value is unknown, or the function cannot be called.
    """

    def declare(call: Callable[..., Any]) -> Implementation:
        declaration = Declaration(
            name=name,
            summary=documentation(call).partition("\n")[0],
            devices=(device,) if isinstance(device, str) else tuple(device),
            dtypes=tuple(dtypes),
            masks=tuple(canonical(mask) for mask in masks),
            mask_intersections=mask_intersections,
            modes=tuple(modes),
            operators=tuple(operators),
            score_mods=tuple(canonical_mods(mods) for mods in score_mods),
            score_mod_combinations=score_mod_combinations,
            alignments=tuple(alignments),
            kv_caches=tuple(kv_caches),
            kv_dtypes=tuple(kv_dtypes),
            strides=tuple(strides),
            empty=empty,
            gqa=gqa,
            unequal_head_dims=unequal_head_dims,
            layout=layout,
            framework=framework,
            requires=tuple(requires),
            stores_scores=stores_scores,
            returns_lse=returns_lse,
            memory=memory,
            agreement_only=tuple(agreement_only),
            untested=untested,
            interpreter=interpreter,
            ranks=ranks,
            bias_grad=bias_grad,
            dropout=tuple(dropout),
        )
        _check(declaration)
        implementation = Implementation(declaration, call, file_of_caller())
        if implementation.refused and not _ONE_BY_ONE.get():
            raise DeclarationError(f"{name}: {implementation.refused}")
        return implementation

    return declare


@contextlib.contextmanager
def refusing_one_by_one() -> Iterator[None]:
    """In this context a function that cannot be called is declared as refused, without failing the rest of its file."""
    token = _ONE_BY_ONE.set(True)
    try:
        yield
    finally:
        _ONE_BY_ONE.reset(token)


def _check(said: Declaration) -> None:
    """Raise for a declaration that could never match, such as a misspelt dtype."""
    problems = []
    if not _NAME.fullmatch(said.name):
        problems.append(f"the name must be family/variant in lower case, not {shown(said.name)}")
    if len(said.name) > _LONGEST_NAME:
        problems.append(f"the name is longer than {_LONGEST_NAME} characters")
    if not isinstance(said.interpreter, str | None):
        problems.append(f"interpreter: {shown(said.interpreter)} is not a path in quotes")
    if said.framework == "jax" and {*said.kv_dtypes} != {"none"}:
        problems.append("kv_dtypes: a plan keeps the scales, and jax's arrays are not rewritten in place")
    for noun, values, known in (
        ("device", said.devices, _DEVICES),
        ("agreement_only", said.agreement_only, _DEVICES),
        ("dropout", said.dropout, _DEVICES),
        ("dtypes", said.dtypes, CHOICES["dtype"]),
        ("masks", [name for mask in said.masks for name in mask_names(mask)], CHOICES["mask"]),
        ("modes", said.modes, CHOICES["mode"]),
        ("operators", said.operators, CHOICES["operator"]),
        ("score_mods", [name for mods in said.score_mods for name in names_in(mods)], CHOICES["score_mod"]),
        ("alignments", said.alignments, CHOICES["alignment"]),
        ("kv_caches", said.kv_caches, CHOICES["kv_cache"]),
        ("kv_dtypes", said.kv_dtypes, CHOICES["kv_dtype"]),
        ("strides", said.strides, CHOICES["strides"]),
        ("layout", (said.layout,), get_args(Layout)),
        ("framework", (said.framework,), get_args(Framework)),
        ("memory", (said.memory,) if said.memory else (), get_args(Memory)),
    ):
        problems += [f"{noun}: {shown(value)} is none of {', '.join(known)}" for value in values if value not in known]
    if said.ranks and (said.operators != ("attention",) or said.layout == "packed" or said.framework != "torch"):
        problems.append("ranks: each holds tokens of torch's tensors: operators=('attention',), and no packed layout")
    if problems:
        raise DeclarationError(f"{in_one_line(said.name)}: " + "; ".join(problems))
