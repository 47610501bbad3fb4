"""Colours are readable by everyone, in both themes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from attnbench.views.report.charts.marks import SHAPES, marks_of
from attnbench.views.report.charts.style import COLOURS, DARK, GREYS, LIGHT, SERIES_DARK, SERIES_LIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

THEMES = [pytest.param(LIGHT, SERIES_LIGHT, id="light"), pytest.param(DARK, SERIES_DARK, id="dark")]

# Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), severity 1
SIGHTS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> NDArray[np.float64]:
    """Return the linear RGB of ``#rrggbb``."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return the WCAG 2 contrast ratio."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the CIELAB of linear RGB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(("theme", "series"), THEMES)
def test_text_has_a_contrast_of_at_least_four_and_a_half(theme: dict[str, str], series: tuple[str, ...]) -> None:
    for role in ("ink", "muted", "link", "mark", "chart-text"):
        assert contrast(theme[role], theme["page"]) >= 4.5, role


@pytest.mark.parametrize(("theme", "series"), THEMES)
def test_curves_and_guides_have_a_contrast_of_at_least_three(theme: dict[str, str], series: tuple[str, ...]) -> None:
    for colour in (*series, theme["chart-guide"]):
        assert contrast(colour, theme["page"]) >= 3, colour


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize(("theme", "series"), THEMES)
def test_every_kind_of_sight_tells_curves_apart(theme: dict[str, str], series: tuple[str, ...], sight: str) -> None:
    seen = [lab(SIGHTS[sight] @ linear(series[index])) for index in COLOURS]
    assert min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2)) > 13


def test_both_themes_have_every_role_and_every_series() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert sorted((*COLOURS, *GREYS)) == list(range(len(SERIES_LIGHT))) == list(range(len(SERIES_DARK)))


def test_no_two_colours_of_a_chart_are_equal_because_rules_find_them_by_value() -> None:
    used = [colour for role, colour in LIGHT.items() if role.startswith("chart-")] + list(SERIES_LIGHT)
    assert len(set(used)) == len(used)


def test_even_sixty_four_implementations_have_marks_of_their_own() -> None:
    marks = marks_of(f"family/{i:02}" for i in range(64))
    assert len({(mark.series, mark.shape) for mark in marks.values()}) == 64
    assert {mark.shape for mark in marks.values()} == set(SHAPES)


def test_of_twelve_implementations_no_two_share_a_colour() -> None:
    assert len({mark.series for mark in marks_of(f"family/{i}" for i in range(12)).values()}) == 12


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            "chunked/torch jax/xla naive/numpy naive/torch naive/torch-compile numba/flash onnxruntime/mha "
            "openvino/sdpa torch/flex torch/multihead-attention torch/sdpa torch/sdpa-flash torch/sdpa-math "
            "triton/flash",
            id="cpu",
        ),
        pytest.param(
            "flash-attn/3-fwd jax/cudnn naive/torch torch/flex torch/sdpa torch/sdpa-cudnn torch/sdpa-flash "
            "triton/flash",
            id="cuda",
        ),
    ],
)
def test_whoever_else_is_there_the_implementations_of_one_report_keep_their_colours(names: str) -> None:
    together = marks_of(names.split())
    assert len({mark.series for mark in together.values()}) == len(together)
    for name, mark in together.items():
        assert marks_of([name])[name] == mark


def test_an_own_kernel_has_the_same_colour_beside_whichever_others() -> None:
    alone = marks_of(["mine/kernel"])["mine/kernel"]
    assert marks_of(["mine/kernel", "torch/sdpa", "numba/flash", "naive/torch"])["mine/kernel"] == alone
    assert alone.series in COLOURS


def test_what_writes_out_every_score_is_grey() -> None:
    marks = marks_of(["naive/torch", "naive/numpy", "torch/sdpa"])
    assert {marks[name].series for name in ("naive/torch", "naive/numpy")} <= set(GREYS)
    assert marks["torch/sdpa"].series in COLOURS


def test_two_that_want_the_same_colour_do_not_share_it() -> None:
    marks = marks_of(["numba/flash", "gluon/flash"])
    assert marks["numba/flash"] == marks_of(["numba/flash"])["numba/flash"]
    assert marks["gluon/flash"].series != marks["numba/flash"].series
