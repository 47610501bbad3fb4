"""Metrics: fields of a record, each declared once with everything that printers, exports and schemas need."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnbench.units import Unit

Join = Literal["median", "max", "all", "any", "first", "union", "concatenate", "at_worst", "derived"]
"""How the values of several processes become one: their median, their maximum, whether all or any are true, the first
one, the union of their items, all of them in a row, the value of the process with the largest ``worst_by``, or derived
from other joined metrics."""
Better = Literal["lower", "higher"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """Declaration of a metric."""

    name: str
    """Field name in records, tables and exports: snake_case, with the unit at the end."""
    title: str
    """Heading of a column."""
    description: str
    unit: Unit
    stage: str
    """The stage that fills it, or ``model`` if it follows from the case and the machine's peaks."""
    join: Join
    only_ok: bool
    """Whether only ``ok`` cells have it: the speed of a wrong kernel means nothing."""
    better: Better | None
    """Which direction is better; ``None`` if neither is."""
    worst_by: str
    """Metric that identifies the worst process if ``join`` is ``at_worst``; otherwise empty."""
    is_whole: bool
    """Whether its values are integers."""

    @property
    def is_per_sample(self) -> bool:
        """Whether a process has a value per sample; such metrics are no column in a table of cells."""
        return self.join == "concatenate"


class Metrics(BaseModel):
    """The metrics that one stage fills. Subclasses are the bases of :class:`attnbench.store.record.Record`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filled_by: ClassVar[str]
    """The stage that fills them."""

    def __init_subclass__(cls, *, stage: str = "", **rest: Any) -> None:
        """Set ``filled_by`` to ``stage``."""
        super().__init_subclass__(**rest)
        if stage:
            cls.filled_by = stage


def metric(
    title: str,
    description: str,
    *,
    unit: Unit,
    join: Join = "first",
    only_ok: bool = False,
    better: Better | None = None,
    worst_by: str = "",
) -> Any:
    """Declare a field of :class:`Metrics` that is ``None`` by default; the arguments are those of :class:`Metric`."""
    about: dict[str, Any] = {"unit": unit, "join": join, "only_ok": only_ok, "better": better, "worst_by": worst_by}
    return Field(None, title=title, description=description, json_schema_extra=about)


def metrics_of(record: type[BaseModel]) -> Iterator[Metric]:
    """Yield the metrics of a record, or of one stage's :class:`Metrics`, in the order of its fields."""
    stages = {
        name: base.filled_by
        for base in record.__mro__
        if issubclass(base, Metrics) and "filled_by" in vars(base)
        for name in base.__annotations__
    }
    for name, field in record.model_fields.items():
        about: Any = field.json_schema_extra
        if isinstance(about, dict) and "join" in about:
            title, description = field.title or name, field.description or ""
            whole = int in get_args(field.annotation)
            yield Metric(name=name, title=title, description=description, stage=stages[name], is_whole=whole, **about)
