"""The page in a real browser, at the widths of a telephone and of a desk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from attnbench.views.report import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from attnbench.store.reader import RunFile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path")

# The page has no script of its own: one beside it looks into it, and writes what it sees where --dump-dom finds it.
PROBE = """<!doctype html><body><iframe src="index.html" style="width: %dpx; height: 900px; border: 0"></iframe>
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const charts = [...page.querySelectorAll("figure > svg")].map(svg => svg.getBoundingClientRect());
  const small = [...page.querySelectorAll("figure svg text")].filter(text => text.textContent)
    .map(text => text.getBoundingClientRect().height);
  const curve = page.querySelector("figure path[stroke='#6b3410']");
  document.body.innerHTML = "<pre>" + JSON.stringify({
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    charts: charts.map(box => [box.width, box.height]),
    smallest: Math.min(...small),
    curve: getComputedStyle(curve).stroke,
    ground: getComputedStyle(page.documentElement).backgroundColor,
  }) + "</pre>";
});
</script></body>"""


@pytest.fixture(scope="module")
def report(scaling_run: RunFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report."""
    return write_report([scaling_run], tmp_path_factory.mktemp("browser") / "report").parent


def seen(report: Path, width: int, *, dark: bool = False) -> dict[str, Any]:
    """What the browser makes of the page at this width."""
    probe = report / f"probe-{width}.html"
    probe.write_text(PROBE % width)
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run", "--allow-file-access-from-files", f"--user-data-dir={report.parent / 'profile'}", *theme,
            "--virtual-time-budget=5000", "--dump-dom", f"--window-size={width + 50},1000", probe.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<pre>(.*)</pre>", done.stdout)
    assert found, done.stderr
    answer: dict[str, Any] = json.loads(found[1])
    return answer


@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_is_wider_than_the_window_and_every_chart_is_large_enough_to_read(report: Path, width: int) -> None:
    page = seen(report, width)
    assert page["overflow"] == 0
    assert len(page["charts"]) == 10
    for chart_width, chart_height in page["charts"]:
        assert 300 <= chart_width <= width
        assert chart_height > 100
    assert page["smallest"] >= 10


def test_charts_follow_the_theme(report: Path) -> None:
    light, dark = seen(report, 400), seen(report, 400, dark=True)
    assert (light["ground"], dark["ground"]) == ("rgb(252, 252, 250)", "rgb(20, 23, 26)")
    assert (light["curve"], dark["curve"]) == ("rgb(107, 52, 16)", "rgb(239, 138, 31)")
