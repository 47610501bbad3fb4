"""The line on the cost of checking relative to timing."""

from __future__ import annotations

from attnbench.store.header import CHECKING, TIMING, checking_sentence


def shares(checking: float, timing: float) -> dict[str, float]:
    """Return a footer's shares, with ``checking`` or ``timing`` seconds in each of their parts."""
    return {**dict.fromkeys(CHECKING, checking), **dict.fromkeys(TIMING, timing), "wall_s": 100.0}


def test_all_sittings_of_a_run_count() -> None:
    said = checking_sentence([shares(0.5, 2.0), shares(1.5, 8.0)])
    assert said == (
        "checking 8.0 s (calls to be judged 2.0 s, copies 2.0 s, oracle 2.0 s, identities 2.0 s), 20 % of timing, "
        "which took 40.0 s (first calls 10.0 s, warm-up 10.0 s, samples 10.0 s, memory 10.0 s)"
    )


def test_where_nothing_was_timed_there_is_nothing_to_compare_with() -> None:
    assert checking_sentence([{**shares(1.0, 1.0), "samples_s": 0.0}]) is None
    assert checking_sentence([]) is None


def test_runs_that_did_not_keep_the_shares_apart_say_nothing() -> None:
    assert checking_sentence([shares(1.0, 1.0), {"calls_s": 9.0, "oracle_s": 1.0}]) is None
