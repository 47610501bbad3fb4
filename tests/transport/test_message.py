"""Messages over a stream arrive as they were sent, in pieces of any size, or are refused."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench import make_case
from attnbench.cases.inputs.sample_inputs import Inputs
from attnbench.identities.identity import Finding
from attnbench.stages.agreement import JudgeOutputs, Select, Shape, Shown
from attnbench.stages.identities import Findings
from attnbench.stages.time.samples import Timed
from attnbench.transport.message import Envelope, Message, ProtocolError, Reader, encode, opened

JUDGED = JudgeOutputs(
    case=make_case(mask="document", seqlen_q=9, document_lengths=[4, 5]), inputs=Inputs(repetition=1, flip_index=3),
    stores_scores=False,
    outputs={"out": Shape(shape=(1, 8, 9, 64), dtype="float32")}, frames={"out": bytes(range(256)) * 9, "lse": b"\n"},
)  # fmt: skip


def arrived(data: bytes, piece: int = 1 << 20) -> list[Envelope]:
    reader, found = Reader(), []
    pieces = iter([data[start : start + piece] for start in range(0, len(data), piece)])
    with contextlib.suppress(StopIteration):
        while True:
            found.append(reader.message(lambda: next(pieces)))
    return found


@given(st.integers(1, 300))
def test_messages_arrive_whole_however_they_are_cut(piece: int) -> None:
    select = Select(case=JUDGED.case, repetition=0)
    one, two, three = arrived(encode(JUDGED) + encode(select) + encode(JUDGED), piece)
    assert opened(one, Select, JudgeOutputs) == opened(three, JudgeOutputs) == JUDGED
    assert opened(two, Select, JudgeOutputs) == select


def test_frames_are_not_in_the_line() -> None:
    shown = Shown(outputs={}, frames={"out": b"\xff" * 1_000_000})
    assert len(encode(shown)) < 1_000_200
    assert opened(arrived(encode(shown))[0], Shown).frames == shown.frames


def test_what_is_not_finite_arrives_as_it_was() -> None:
    finding = Finding(tensor="out", error=math.inf, where=(0, 1), got=math.nan, want=-math.inf, floors={"out": 0.5})
    message = Findings(found={"values-of-one": (finding,)}, left_out={})
    (got,) = opened(arrived(encode(message))[0], Findings).found["values-of-one"]
    assert (got.error, math.isnan(got.got), got.want, got.where) == (math.inf, True, -math.inf, (0, 1))


@pytest.mark.parametrize(
    "line",
    [b"done", b"[1]", b"{}", b'{"kind": "Shown"}', b'{"kind": "Shown", "body": [], "frames": {}}',
     b'{"kind": "Shown", "body": {}, "frames": {"out": -1}}', b"\xff\xfe"],
)  # fmt: skip
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="it wrote into the protocol's pipe"):
        arrived(line + b"\n")


def test_more_than_can_be_received_is_refused_before_it_arrives() -> None:
    with pytest.raises(ProtocolError, match="more than can be received"):
        arrived(json.dumps({"kind": "Shown", "body": {}, "frames": {"out": 10**15}}).encode() + b"\n")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("Shown", {}, "its Shown cannot be read: outputs: Field required"),
        ("Shown", {"outputs": {"out": {"shape": ["a"], "dtype": "float32"}}}, "outputs.out.shape.0"),
        ("Shown", {"outputs": {}, "and": 1}, "and: Extra inputs are not permitted"),
        ("Findings", {"found": {}, "left_out": {}}, "it sent 'Findings' where Shown is due"),
    ],
)
def test_what_is_not_as_declared_is_refused(kind: str, body: dict[str, object], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        opened(Envelope(kind, body, {}), Shown)


def test_a_case_that_is_none_is_refused_with_its_mistake() -> None:
    body = {"case": {"dtype": "float23"}, "repetition": 0}
    with pytest.raises(ProtocolError, match=r"case: .*float23"):
        opened(Envelope("Select", body, {}), Select)


def test_a_message_cannot_be_changed() -> None:
    message: Message = Select(case=make_case(), repetition=0)
    with pytest.raises(ValueError, match="frozen"):
        message.frames = {}


@pytest.mark.parametrize("samples", [[], [1.0, -1.0], [1.0, math.nan], [math.inf]])
def test_a_worker_cannot_answer_with_times_that_are_none(samples: list[float]) -> None:
    body = {"time_samples_ns": samples, "warmup_ns": 1.0, "inputs": {}}
    with pytest.raises(ProtocolError, match="all of them must be times"):
        opened(Envelope("Timed", body, {}), Timed)
