"""Head's values for history trackers: github-action-benchmark (customSmallerIsBetter) and Bencher (BMF)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.gate.verdict import GateResult, Verdict

_UNITS = {"time": "ns", "memory": "bytes"}
_MEASURES = {"time": "latency", "memory": "memory-peak-bytes"}


def github_action_benchmark(result: GateResult) -> list[dict[str, object]]:
    """Return entries with name, unit, value, range and extra; smaller is better."""
    return [
        {
            "name": f"{one.label}: {one.metric}",
            "unit": _UNITS[one.metric],
            "value": one.head,
            **({"range": f"± {100 * one.noise_sd:.1f} %"} if one.noise_sd is not None else {}),
            "extra": f"{one.verdict}: {one.sentence}",
        }
        for one in _measured(result)
    ]


def bencher(result: GateResult) -> dict[str, dict[str, dict[str, float]]]:
    """Return Bencher Metric Format (benchmark, measure, value); ``latency`` is the built-in measure, in nanoseconds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for one in _measured(result):
        assert one.head is not None
        found.setdefault(one.label, {})[_MEASURES[one.metric]] = {"value": one.head}
    return found


def _measured(result: GateResult) -> list[Verdict]:
    return [one for one in result.verdicts if one.metric in _UNITS and one.head is not None]
