"""The oracle's loop: ``python -m attnbench.oracle READ_FD WRITE_FD``."""

from __future__ import annotations

import collections
import sys
from pathlib import Path
from time import perf_counter_ns

from attnbench.cases.case import Case, make_case
from attnbench.machine.warm_up_libraries import warm_up_torch
from attnbench.oracle.identities import judge_identities
from attnbench.oracle.inspection import InspectionError, write_errors, write_inside
from attnbench.oracle.judge import Judgement, Truth, find_truth, judge
from attnbench.oracle.selection import Selection, requests, select
from attnbench.transport.pipe import Channel, Message, die_with_parent

_REMEMBERED_BYTES = 512 * 2**20


class Memory:
    """The truths found so far, the latest used last; old ones are forgotten beyond half a GiB."""

    def __init__(self) -> None:
        self._truths: collections.OrderedDict[tuple[str, int], Truth] = collections.OrderedDict()

    def truth(self, case: Case, selection: Selection, repetition: int) -> Truth:
        """The truth of a case, computed once."""
        key = (case.case_id, repetition)
        if key not in self._truths:
            self._truths[key] = find_truth(case, selection, repetition)
        self._truths.move_to_end(key)
        while len(self._truths) > 1 and sum(truth.nbytes for truth in self._truths.values()) > _REMEMBERED_BYTES:
            self._truths.popitem(last=False)
        return self._truths[key]


def answer(memory: Memory, request: Message) -> Message:
    """``start`` loads torch; ``select`` says what to show; ``judge`` and ``identities`` give verdicts."""
    start = perf_counter_ns()
    if request["do"] == "start":
        warm_up_torch(request["threads"])
        return {"status": "ok", "oracle_ns": perf_counter_ns() - start}
    case = make_case(**request["case"])
    if request["do"] == "inspect":
        return {"status": "ok", **write_inside(case, request["batch_index"], Path(request["path"]))}
    selection = select(case, request["repetition"])
    if request["do"] == "select":
        return {"status": "ok", "selection": requests(case, selection)}
    truth = memory.truth(case, selection, request["repetition"])
    if request["do"] == "identities":
        first = truth if request["repetition"] == 0 else memory.truth(case, select(case), 0)
        judged = judge_identities(case, [first, truth], request["found"])
        return {"status": "ok", **judged, "oracle_ns": perf_counter_ns() - start}
    judgement = judge(
        case, selection, truth, request["outputs"], Path(request["folder"]), flip_index=request["flip_index"]
    )
    inspected: Message = {}
    if "errors_path" in request:
        inspected = write_errors(case, request["batch_index"], truth, judgement, Path(request["errors_path"]))
    return {
        **inspected,
        "status": "ok",
        "fields": judgement.fields,
        "problem": judgement.problem,
        "cause": _cause(case, selection, truth, judgement, request["repetition"]),
        "oracle_ns": perf_counter_ns() - start,
    }


def _cause(case: Case, selection: Selection, truth: Truth, judgement: Judgement, repetition: int) -> str | None:
    """A guess at why values disagree."""
    if not judgement.wrong:
        return None
    from attnbench.oracle.diagnosis import guess  # most runs never need it

    return guess(case, selection, truth, judgement.seen, judgement.wrong, repetition)


def main() -> None:
    """Serve until the parent hangs up."""
    die_with_parent()
    channel = Channel(int(sys.argv[1]), int(sys.argv[2]))
    memory = Memory()
    while (request := channel.receive()) is not None:
        try:
            channel.send(answer(memory, request))
        except InspectionError as refusal:
            channel.send({"status": "refused", "reason": str(refusal)})
        except Exception as error:  # noqa: BLE001 - a question that it cannot answer must not end the oracle
            channel.send({"status": "error", "reason": f"the oracle failed: {type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
