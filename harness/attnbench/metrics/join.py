"""Joins the metrics of a cell's processes into one value each, as each metric declares."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnbench.metrics.metric import Metric


def join_metrics(
    metrics: Iterable[Metric], records: Sequence[Mapping[str, Any]], counted: Sequence[Mapping[str, Any]]
) -> dict[str, object]:
    """Return joined values by name; ``None`` if no process has one, and for derived metrics.

    Metrics of ok cells are joined over the processes whose speed counts, the others over all.
    """
    return {metric.name: _joined(metric, counted if metric.only_ok else records) for metric in metrics}


def _joined(metric: Metric, records: Sequence[Mapping[str, Any]]) -> Any:
    if metric.join == "derived":
        return None
    if metric.join == "at_worst":
        judged = [record for record in records if record[metric.worst_by] is not None]
        records = [max(judged, key=lambda record: record[metric.worst_by])] if judged else []
    values = [value for record in records if (value := record[metric.name]) is not None]
    return join_values(metric, values)


def join_values(metric: Metric, values: Sequence[Any]) -> Any:
    """Join values of a metric; ``None`` without values, and for joins that need other metrics too."""
    if not values:
        return None
    match metric.join:
        case "median":
            middle = statistics.median(values)
            return round(middle) if metric.is_whole else middle
        case "max":
            return max(values)
        case "all":
            return all(values)
        case "any":
            return any(values)
        case "union":
            return tuple(dict.fromkeys(item for value in values for item in value))
        case "concatenate":
            return tuple(item for value in values for item in value)
        case "first" | "at_worst":
            return tuple(values[0]) if isinstance(values[0], list) else values[0]
    return None
