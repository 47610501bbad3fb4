from __future__ import annotations

import pytest

from attnbench.untrusted.printable import in_one_line, printable, shown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain text, 3 × 4 µs — naïve 日本", "plain text, 3 × 4 µs — naïve 日本"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("over\rwritten", r"over\rwritten"),
        ("\x9b31m", r"\x9b31m"),  # a terminal's commands may begin with a single character, too
        ("a\u202eb\u2066c\u200bd", r"a\u202eb\u2066c\u200bd"),
        ("half a \ud83d", r"half a \ud83d"),
        ("::error::a\n  ::b c10::Error", "\\x3a:error::a\n  \\x3a:b c10::Error"),
        ("e\U000e0041", r"e\U000e0041"),
    ],
)
def test_what_acts_is_written_out_and_what_shows_stays(text: str, escaped: str) -> None:
    assert printable(text) == escaped
    printable(text).encode()


def test_a_cell_has_one_line() -> None:
    assert in_one_line("a\nb\tc") == r"a\nb\tc"


def test_a_shown_value_is_short_whatever_it_is() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in ("x" * 10**6, 16**20_000, ["\x1b"] * 1000, deep):
        assert len(shown(value)) <= 100
        assert shown(value).isprintable()
    assert shown("it's") == '"it\'s"'
