"""The command that repeats a cell is short, and made from the cell's own fields."""

from __future__ import annotations

import itertools
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.cases.case import CaseError, make_case
from attnbench.store.repro import Commands, repro_command
from attnbench.sweep.expand import adhoc, expand, parse_overrides


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "batch": st.integers(1, 3),
            "heads_q": st.sampled_from([1, 4, 8]),
            "heads_kv": st.sampled_from([1, 4]),
            "seqlen_q": st.integers(1, 300),
            "seqlen_kv": st.integers(1, 300),
            "head_dim": st.sampled_from([8, 64, 80]),
            "head_dim_v": st.sampled_from([8, 64]),
            "dtype": st.sampled_from(["float32", "bfloat16"]),
            "mask": st.sampled_from(["none", "causal", "sliding_window", "prefix_lm", "document", "key_padding"]),
            "alignment": st.sampled_from(["top_left", "bottom_right"]),
            "document_causal": st.booleans(),
            "score_mod": st.sampled_from(["none", "softcap", "alibi"]),
            "mode": st.sampled_from(["forward", "backward"]),
            "seed": st.integers(0, 3),
        },
    )
)
def test_the_command_that_shows_a_cell_again_makes_the_same_case(fields: dict[str, object]) -> None:
    try:
        case = make_case(**fields)
    except CaseError:
        return
    words = shlex.split(repro_command(case, "naive/torch", None, "cpu"))
    axes = [value for flag, value in itertools.pairwise(words) if flag == "-a"]
    assert [one.case for one in expand(adhoc(), parse_overrides(axes))] == [case]


def test_the_command_says_no_more_than_it_must() -> None:
    case = make_case(seqlen_q=128, mask="causal")
    assert (
        repro_command(case, "naive/torch", None, "cpu")
        == "attnbench run -i '^naive/torch$' -a seqlen_q=128 -a mask=causal"
    )


CASE = make_case(seqlen_q=128, mask="causal", inputs="file:it's mine.npz")
SHORTEST = repro_command(CASE, "my/kernel", "my file.py", "cuda")


def test_whatever_a_name_holds_it_is_one_word() -> None:
    assert SHORTEST == (
        "attnbench run -i '^my/kernel$' --plugin 'my file.py' --device cuda -a seqlen_q=128 -a mask=causal "
        """-a 'inputs=file:it'"'"'s mine.npz'"""
    )


def test_what_a_file_calls_the_command_is_kept_where_it_says_what_the_record_says() -> None:
    longer = SHORTEST.replace("-a mask", "-a seqlen_kv=128 -a mask")
    for said in (SHORTEST, longer):
        assert Commands().of(said, CASE, "my/kernel", "my file.py", "cuda") == said


@pytest.mark.parametrize(
    "said",
    [
        "",
        "rm -rf ~",
        f"{SHORTEST}; rm -rf ~",
        f"{SHORTEST} -a seqlen_q=64",
        f"{SHORTEST}\n-a seqlen_q=128",
        SHORTEST.replace("my file", "your file"),
        SHORTEST.replace("--device", "--out=/etc/passwd --device"),
        SHORTEST.replace("'^my/kernel$'", "$(rm)"),
        SHORTEST.replace("seqlen_q=128", "seqlen_q=128`rm`"),
    ],
)
def test_any_other_command_of_a_file_is_made_anew(said: str) -> None:
    assert Commands().of(said, CASE, "my/kernel", "my file.py", "cuda") == SHORTEST
