"""A run file from a stranger: every view shows its texts, whatever they are, and executes none."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from attnbench.api.results import Run
from attnbench.cases.case import make_case
from attnbench.store.reader import RunFile, RunFileError, read_run
from attnbench.views.compare import compare_implementations
from attnbench.views.compare_view import view_of
from attnbench.views.document import View, as_csv, as_json, markdown
from attnbench.views.forms.terminal import as_text
from attnbench.views.report.write import write_report
from attnbench.views.show import show
from tests.views.conftest import failed, timed, write

ACTIVE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\ud800-\udfff\ufffe\uffff]")
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "a\r\x9b31mb",
    "right\u202etfel \u200bx\ufeff\uffff",
    "half \ud83d",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "``` `` ` | a ``` |\n# owned\n- b",
    "<script>alert(1)</script></details>]]>-->",
    "[red]a[/blue] [link=file:///etc/passwd]",
    "'\";alert(1)//{{7*7}}${7*7}",
    "::error::owned\n::set-env name=a::b",
    "$(rm -rf ~)`rm`; rm",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    """Return a run in which every text is the same hostile one."""
    lines = []
    for index, text in enumerate(HOSTILE):
        name = f"{text}/{index}"
        more: dict[str, Any] = {"cell_tags": (text,), "layout": text, "implementation_version": text}
        for tokens in (128, 256, 512):
            case = make_case(seqlen_q=tokens, inputs=f"file:{text}" if index % 2 else "normal")
            measured: dict[str, Any] = {"backend": text, "time_method": text, "identities": (text,)}
            lines.append(timed(case, name, 1000.0 * tokens, **measured, **more))
            lines[-1] |= {"repro": text, "source_hash": text}
        lines.append(failed(make_case(seqlen_q=64), name, "error", text, **more))
    said = {text: [{text: text}] for text in HOSTILE}
    return read_run(
        write(
            tmp_path_factory.mktemp("hostile") / "run.jsonl",
            lines,
            command=[*HOSTILE],
            run_id=HOSTILE[0],
            created_at=HOSTILE[1],
            machine_key=HOSTILE[5],
            scenario={"name": HOSTILE[7], "description": "\n".join(HOSTILE), "baseline": f"{HOSTILE[4]}/4", **said},
            environment={"cpu_model": HOSTILE[0], "gpus": [{"name": HOSTILE[2]}], **said},
            libraries=said,
            implementations={
                lines[0]["implementation"]: {"origin": {"kind": "file", "target": HOSTILE[11]}, "version": HOSTILE[4]}
            },
        )
    )


@pytest.fixture(scope="module", params=["show", "compare"])
def view(run: RunFile, request: pytest.FixtureRequest) -> View:
    return show(run) if request.param == "show" else view_of(compare_implementations(run, f"{HOSTILE[4]}/4"))


def test_a_terminal_shows_every_text_and_obeys_none(view: View) -> None:
    said = as_text(view)
    assert not ACTIVE.search(said)
    assert r"\x1b[2J\x1b]0;owned\x07" in said
    assert "[red]a[/blue] [link=file:///etc/passwd]" in said


def test_no_line_begins_with_a_command_for_a_ci(view: View) -> None:
    for said in (as_text(view), markdown(view)):
        assert not re.search(r"^\s*::", said, re.MULTILINE)


def test_in_markdown_they_are_text(view: View) -> None:
    said = markdown(view)
    assert not ACTIVE.search(said)
    outside = _without_code(said)
    assert not re.search(r"(?<!\\)<[a-z/]", outside)
    assert not re.search(r"^# owned", said, re.MULTILINE)
    assert not re.search(r"(?<!\\)\[link", outside)
    rows = [line for line in said.splitlines() if line.startswith("|")]
    for head, *others in _tables(rows):
        assert {_cells(row) for row in others} == {_cells(head)}, head


def test_in_csv_they_are_no_formulas(view: View) -> None:
    for row in csv.reader(io.StringIO(as_csv(view))):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not ACTIVE.search(cell)


def test_json_holds_them_in_ascii(view: View) -> None:
    said = as_json(view)
    assert said.isascii()
    assert not ACTIVE.search("".join(map(str, json.loads(said)["rows"])))


def test_the_commands_to_copy_are_attnbenchs_own(run: RunFile) -> None:
    assert run.header.command_line.startswith("attnbench ")
    for record in run.records:
        assert record["repro"].startswith("attnbench run -i '^")
    assert " --plugin '$(rm -rf ~)`rm`; rm' -a" in run.records[0]["repro"]


def test_a_notebook_and_a_page_hold_them_as_text(run: RunFile, tmp_path: Path) -> None:
    page = write_report([run], tmp_path / "report").read_text()
    for said in (page, Run(run.path)._repr_html_()):
        assert not ACTIVE.search(said.replace("\t", ""))
        seen = _Seen()
        seen.feed(said)
        assert "alert(1)" not in "".join(seen.scripts)
        assert not seen.handlers
        assert "<script>alert(1)</script></details>]]>-->" in seen.text
    twin = (tmp_path / "report/report.md").read_text()
    assert not ACTIVE.search(twin)
    assert not re.search(r"(?<!\\)<script", _without_code(twin))
    with (tmp_path / "report/data/cells.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
    assert [cell for cell in cells if cell.startswith("'=cmd")]


def _without_code(markdown: str) -> str:
    """Strip code spans and blocks of code."""
    return re.sub(r"(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown, flags=re.DOTALL)


class _Seen(html.parser.HTMLParser):
    """Collects the scripts that a browser would run, and the text that it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handlers += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]
        self._in_script = tag == "script" and ("type", "application/json") not in attrs

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)
        else:
            self.text += data


def _tables(rows: list[str]) -> list[list[str]]:
    """Group rows by table; a table's second row is a rule."""
    tables: list[list[str]] = []
    for row, following in zip(rows, [*rows[1:], ""], strict=True):
        if re.fullmatch(r"\|( -+:? \|)+", following):
            tables.append([])
        tables[-1].append(row)
    return tables


def _cells(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"heads_q": "8"}, "whose heads_q is '8', not an integer"),
        ({"heads_q": 0}, "whose heads_q = 0 is not a positive integer"),
        ({"heads_q": 10**400}, "whose heads_q is 1000.*, which cannot be"),
        ({"heads_q": True}, "whose heads_q is True, not an integer"),
        ({"dtype": "int4"}, "whose dtype is 'int4', which cannot be"),
        ({"window_left": 3}, "whose window_left is 3, which a case like this has not"),
        ({"time_median_ns": "fast"}, "whose time_median_ns is 'fast', not a number or null"),
        ({"time_median_ns": 0}, "whose time_median_ns is 0, which cannot be"),
        ({"time_samples_ns": [1.0, "2"]}, r"whose time_samples_ns is \[1.0, '2'\], which cannot be"),
        ({"time_samples_ns": {"a": 1}}, "whose time_samples_ns is {'a': 1}, not a list or null"),
        ({"reason": ["\x1b"]}, r"whose reason is \['.*x1b'\], not a text or null"),
        ({"cell_tags": None}, "whose cell_tags is None, not a list"),
        ({"\x1b": 1}, r"with fields that schema \d has not: \\x1b"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    line = timed(make_case(), "a/a", 100.0) | change
    with pytest.raises(RunFileError, match=f"run.jsonl, line 2, is a record {sentence}"):
        read_run(write(tmp_path / "run.jsonl", [line], implementations={}))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 200_000 + "]" * 200_000, "is not JSON: its brackets are nested too deeply"),
        ('{"kind": "header", "environment": ' + "[" * 99 + "]" * 99 + "}", "its brackets are nested too deeply"),
        ('{"kind": "header", "seed": 1e999}', "is not JSON: a number is beyond all floats"),
        ('{"kind": "header", "seed": ' + "9" * 5000 + "}", "is not JSON: Exceeds the limit"),
        ('{"kind": "header", "seed": NaN}', "is not JSON: NaN is no JSON number"),
        ('{"kind": "header", "a": "\x1b[2J"}', "is not JSON: Invalid control character"),
        ('{"kind": "\\ud800"}', "is not a run file: its first line is no header"),
        ("\ufeff\ufeff{}", "is not JSON"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "run.jsonl").write_text(text + "\n", encoding="utf-8")
    with pytest.raises(RunFileError, match=sentence):
        read_run(tmp_path / "run.jsonl")


def test_an_infinite_number_of_a_record_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", [timed(make_case(), "a/a", 100.0, wall_s=12345.5)])
    path.write_text(path.read_text().replace("12345.5", "1e999"))
    with pytest.raises(RunFileError, match="line 2, is a record whose wall_s is inf, which cannot be"):
        read_run(path)
