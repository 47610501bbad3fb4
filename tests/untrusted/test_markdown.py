from __future__ import annotations

import re

import pytest

from attnbench.untrusted.markdown import code, fence, inline, paragraph


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("causal & key_padding", r"causal & key\_padding"),
        ("&lt;b&#62;", r"\&lt;b\&#62;"),
        ("<img src=x> | a`b", r"\<img src=x\> \| a\`b"),
        ("[a](https://b.example) ~~c~~", r"\[a\](https\://b.example) \~\~c\~\~"),
        ("www.b.example", r"www\.b.example"),
        ("two\nlines", "two lines"),
        ("- 3.5 +", "- 3.5 +"),
    ],
)
def test_text_within_a_line(text: str, written: str) -> None:
    assert inline(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("---", r"\---"),
        ("    a", "a"),
        ("12. a", r"12\. a"),
        ("1) a", r"1\) a"),
        ("12 cells: 3 ok", "12 cells: 3 ok"),
        ("2026-11-25, attnbench", "2026-11-25, attnbench"),
        ("3.5 ms", "3.5 ms"),
        ("", ""),
    ],
)
def test_text_at_the_beginning_of_a_line(text: str, written: str) -> None:
    assert paragraph(text) == written


@pytest.mark.parametrize("text", ["a", "`", "``", "a`b``c```", "```", "a|b\n|c"])
def test_code_ends_where_it_should(text: str) -> None:
    written = code(text)
    (begin, inside, end) = re.fullmatch(r"(`+)(.*?)(`+)", written, re.DOTALL).groups()  # type: ignore[union-attr]
    assert begin == end
    assert begin not in re.findall("`+", inside)
    assert "\n" not in written
    assert not re.search(r"(?<!\\)\|", written)


def test_nothing_makes_no_code() -> None:
    assert (code(""), code(" \n")) == ("", "")


def test_a_fence_is_longer_than_any_within() -> None:
    assert (fence("a"), fence("a\n````\nb")) == ("```", "`````")
