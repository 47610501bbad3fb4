"""A page as a tree of tags, parsed strictly."""

from __future__ import annotations

import dataclasses
import html.parser
from typing import TYPE_CHECKING

from attnbench.views.report.content import report_of
from attnbench.views.report.page import html_page

if TYPE_CHECKING:
    from attnbench.store.reader import RunFile

VOID = {"meta", "br", "hr", "img", "input", "link"}


@dataclasses.dataclass
class Element:
    """A tag with its content."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = dataclasses.field(default_factory=list)
    text: str = ""

    def all(self, tag: str = "") -> list[Element]:
        """Return the element and all below it, or only those with a tag."""
        found = [self] if tag in ("", self.tag) else []
        return [*found, *(inner for child in self.children for inner in child.all(tag))]

    def words(self) -> str:
        """Return its text, including that of all elements below."""
        return " ".join([self.text, *(child.words() for child in self.children)])


class Page(html.parser.HTMLParser):
    """A strict parser: a tag that is not closed, or closed in the wrong order, is an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(source)
        assert len(self._open) == 1, f"not closed: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data


def page_of(*runs: RunFile, across_machines: bool = False) -> Element:
    """Return the page of a report of these runs."""
    return Page(html_page(report_of(runs, across_machines=across_machines))).root


def section(page: Element, anchor: str) -> Element:
    """Return the section with the anchor."""
    (found,) = [one for one in page.all("section") if one.attributes["id"] == anchor]
    return found


def figures(page: Element, noun: str) -> list[Element]:
    """Return all figures about a subject, such as time, from all sections."""
    return [figure for figure in page.all("figure") if figure.attributes["id"].startswith(f"{noun}-")]
