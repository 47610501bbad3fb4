"""Checks the identities of a cell that agrees: other ways to the same answer, compared over all rows.

The oracle judges the findings (:mod:`attnbench.oracle.identities`).
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from attnbench.cases.bias import tensor_bias
from attnbench.cases.cost import tensor_elements
from attnbench.cases.inputs.operands import has_finite_operands, operand_shapes, output_shape
from attnbench.identities.collection import IDENTITIES, name_of
from attnbench.untrusted.exceptions import message_of
from attnbench.worker.call import bind, refusal
from attnbench.worker.dump import canonical_output
from attnbench.worker.memory.allocator import is_out_of_memory
from attnbench.worker.output_checks import MisconductError
from attnbench.worker.tensors import as_array, inputs_of, place

if TYPE_CHECKING:
    from attnbench.cases.case import Case
    from attnbench.identities.identity import Allowance, Arrays, Finding, Identity, Variant
    from attnbench.worker.call import Call
    from attnbench.worker.dump import Outputs
    from attnbench.worker.session import Expected, Session

_CLOCK = perf_counter_ns
_COPIES = 8
"""At most this multiple of the case's tensors, in float32, is held: inputs, outputs, variants, and what is compared."""


class BrokenVariantError(Exception):
    """Another case, which the implementation also declares, could not be called."""


def check_identities(session: Session, allowance: Allowance) -> tuple[dict[str, list[Finding]], dict[str, str]]:
    """Check each identity that applies to the case, cheap ones first, within the allowance.

    The inputs have their former values afterwards.

    Returns:
        The findings by identity, and by identity the reason why it was not checked.
    """
    case, said, expected = session.case, session.implementation.declaration, session.expected
    found: dict[str, list[Finding]] = {}
    left_out: dict[str, str] = {}
    why_none = _why_none(case, allowance)
    if why_none or expected is None or not session.results:
        return {}, {"all": why_none or "there is no result"}
    start = _CLOCK()
    inputs = inputs_of(case, said.layout, session.placed())
    results = _arrays(case, said.layout, session.results[-1])
    for identity in IDENTITIES:
        name = name_of(identity)
        why_not = identity.refuses(case) or _too_dear(identity, expected, allowance, _CLOCK() - start)
        if why_not is None:
            variants = identity.variants(case, inputs)
            refusals = (_refused(session, variant.case, allowance) for variant in variants if variant.case != case)
            why_not = next((reason for reason in refusals if reason), None)
        if why_not is not None:
            left_out[name] = why_not
            continue
        try:
            others = [_results_of(session, variant) for variant in variants]
            found[name] = identity.findings(case, inputs, results, others)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            left_out[name] = "there was not enough memory"
    session.rewrite(inputs)
    return found, left_out


def _why_none(case: Case, allowance: Allowance) -> str | None:
    if case.operator != "attention":
        return "identities are those of attention without projections"
    if not (case.batch and case.seqlen_q and case.seqlen_kv):
        return "there is nothing to compare"
    if case.dropout is not None:
        return "weights that are dropped belong to these inputs alone"
    if 4 * _COPIES * sum(tensor_elements(case).values()) > allowance.memory_bytes:
        return "its tensors are too large to be held several times"
    if not has_finite_operands(case):
        return "what the mask hides of its inputs is not finite, and sums over all keys would meet it"
    return None


def _too_dear(identity: Identity, expected: Expected, allowance: Allowance, spent_ns: float) -> str | None:
    """Return why an identity costs too much, or ``None``."""
    if identity.needs == "nothing":
        return None
    if identity.needs == "another case" and allowance.prepare_ns == 0:
        return "other cases are called by attnbench check only"
    if identity.needs == "another case" and expected.anew_ns - 10 * expected.call_ns > allowance.prepare_ns:
        return "each case is prepared or compiled for long"
    cost = expected.call_ns if identity.needs == "a call" else expected.anew_ns
    return None if cost <= allowance.time_ns - spent_ns else "its calls would take too long"


def _refused(session: Session, other: Case, allowance: Allowance) -> str | None:
    """Return why another case is not called, or ``None``."""
    if session.prepared().ranks > 1:
        return "other cases are not shared out to ranks"
    one = session.implementation
    scores = 4 * _COPIES * other.batch * other.heads_q * other.seqlen_q * other.seqlen_kv
    if one.declaration.memory in (None, "O(n^2)") and scores > allowance.memory_bytes:
        return "its scores may need more memory than there is"
    return refusal(one, other, session.device)


def _results_of(session: Session, variant: Variant) -> Arrays:
    """Call a variant: the same case with other values in the same tensors, or another case with its own tensors."""
    said = session.implementation.declaration
    if variant.case == session.case:
        session.rewrite(variant.inputs)
        return _arrays(variant.case, said.layout, _called(session.prepared()))
    operands = place(variant.case, said, session.device, variant.inputs)
    try:
        outputs = _called(bind(session.implementation, variant.case, operands))
    except Exception as error:
        raise BrokenVariantError(f"{variant.label} raised {type(error).__name__}: {message_of(error)}") from error
    found = _arrays(variant.case, said.layout, outputs)
    _require_shapes(variant, found)
    return found


def _require_shapes(variant: Variant, found: Arrays) -> None:
    case = variant.case
    shapes = operand_shapes(case)
    out = output_shape(case)
    due = {"out": out, "lse": out[:3], "dq": shapes["q"], "dk": shapes["k"], "dv": shapes["v"]}
    if case.bias_grad:
        due["dbias"] = tensor_bias(case).shape
    for name, tensor in found.items():
        if tensor.shape != due[name]:
            raise MisconductError(f"for {variant.label} {name} has shape {tensor.shape}, not {due[name]}")


def _called(call: Call) -> Outputs:
    call.set_up()
    return call.outputs(call.run())


def _arrays(case: Case, layout: str, outputs: Outputs) -> Arrays:
    """Return the outputs of a call on the host, heads before tokens."""
    return {name: as_array(canonical_output(case, layout, name, tensor)) for name, tensor in outputs.items()}
