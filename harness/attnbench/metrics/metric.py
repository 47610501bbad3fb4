"""A metric: one field of a record, declared once, with all that printers, exports and schemas say of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnbench.units import Unit

Join = Literal["median", "max", "all", "any", "first", "union", "concatenate", "at_worst", "derived"]
"""How a metric's values from several processes become one: their middle, the largest, whether all or any say yes, the
first one there is, the distinct ones, one behind the other, that of the process in which ``worst_by`` is largest, or
derived anew from the metrics that are joined."""
Better = Literal["lower", "higher"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """All that is known of a metric but its values."""

    name: str
    """The field's name in records, tables and exports: snake_case, the unit at its end."""
    title: str
    """For the head of a column."""
    description: str
    unit: Unit
    stage: str
    """The stage that fills it, or ``model`` where it follows from the case and the machine's peaks."""
    join: Join
    only_ok: bool
    """Whether only ``ok`` cells carry it: a wrong kernel has no speed."""
    better: Better | None
    """Which direction is better; ``None`` where neither is."""
    worst_by: str
    """The metric that says which process is the worst one, where ``join`` is ``at_worst``; else empty."""
    is_whole: bool
    """Whether its values are whole numbers."""

    @property
    def is_per_sample(self) -> bool:
        """Whether a process has a value for each sample; such metrics fill no column of a table of cells."""
        return self.join == "concatenate"


class Metrics(BaseModel):
    """The metrics that one stage fills. Subclasses are the bases of :class:`attnbench.store.record.Record`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filled_by: ClassVar[str]
    """The stage."""

    def __init_subclass__(cls, *, stage: str = "", **rest: Any) -> None:
        """``stage`` names the stage whose metrics these are."""
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
    """A field of :class:`Metrics`, absent (``None``) by default; the arguments are those of :class:`Metric`."""
    about: dict[str, Any] = {"unit": unit, "join": join, "only_ok": only_ok, "better": better, "worst_by": worst_by}
    return Field(None, title=title, description=description, json_schema_extra=about)


def metrics_of(record: type[BaseModel]) -> Iterator[Metric]:
    """The metrics of a record, or of one stage's :class:`Metrics`, in the order of its fields."""
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
