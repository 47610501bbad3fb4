"""``attnbench.inspect``: write a page about attention in one case, and the errors of implementations in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.api.config import read_config
from attnbench.api.results import Inspection
from attnbench.api.selection import axis_texts, plugin_texts, require_device, texts
from attnbench.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from attnbench.api.selection import Axes, Plugins, Texts
    from attnbench.cases.case import Case
    from attnbench.registry.found import Found

_SMALL = ("seqlen=64", "heads=2")
"""The default size, small enough to see every weight."""


def inspect(
    tensors: str | os.PathLike[str] | None = None,
    *,
    include: Texts | None = None,
    exclude: Texts | None = None,
    axis: Axes | None = None,
    plugin: Plugins | None = None,
    device: str = "cpu",
    batch_index: int = 0,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Inspection:
    """Look into one case: mask, attention weights and entropy per head, and where implementations are off.

    Other arguments are those of :func:`attnbench.run`.

    Args:
        tensors: .npz, .safetensors or .pt with q, k and v, which settle sizes and dtype; default: values that the case
            describes.
        include: implementations to compare with the reference: regular expressions; default none.
        axis: the case: ``{"seqlen": 64, "mask": "causal"}`` or ``["seqlen=64", "mask=causal"]``; 64 tokens and two
            heads where it names neither; default causal.
        device: ``"cpu"`` or ``"cuda"``.
        batch_index: which batch element is shown.
        out: folder of the page; default ``reports/runs/inspect-CASE``.
        force: replace an inspection that is there already.

    Returns:
        The inspection: ``path`` of its page, ``ok`` if no implementation disagrees, ``frame`` of implementations.

    Raises:
        UsageError: the axes make no case or several, the tensors do not fit, or the folder exists.
    """
    from attnbench.machine.hardware.pinning import default_threads
    from attnbench.runner.inspect import write_inspection
    from attnbench.store.whole_folder import require_room, whole_folder
    from attnbench.views.report.inspection import write_inspection_page

    require_device(device)
    file = None if tensors is None else Path(tensors)
    case = _case(axis_texts(axis) or (() if file else ("mask=causal",)), file)
    if not 0 <= batch_index < case.batch:
        raise UsageError(f"batch_index {batch_index}: the case has {case.batch}")
    chosen = _chosen(texts(include), texts(exclude), plugin_texts(plugin))
    folder = Path(out) if out is not None else Path("reports/runs") / f"inspect-{case.case_id}"
    require_room(folder, "inspection", "inspection.json", force=force)
    with whole_folder(folder) as made:
        write_inspection(case, chosen, made, device=device, batch_index=batch_index, threads=default_threads())
        disagree = write_inspection_page(made)
    return Inspection(folder / "index.html", ok=not disagree)


def _chosen(include: tuple[str, ...], exclude: tuple[str, ...], plugins: tuple[str, ...]) -> list[Found]:
    from attnbench.registry.discover import find
    from attnbench.runner.planning.plan import Selectors, choose
    from attnbench.sweep.expand import adhoc

    if not include:
        return []
    return choose(find((*read_config().plugins, *plugins)), adhoc(), Selectors(include=include, exclude=exclude))


def _case(axes: Sequence[str], tensors: Path | None) -> Case:
    from attnbench.cases.inputs.operands import file_problems
    from attnbench.sweep.expand import adhoc, expand, parse_overrides

    is_sized = any(axis.startswith(("seqlen", "heads", "inputs=file:")) for axis in axes)
    size = [f"inputs=file:{tensors}"] if tensors is not None else () if is_sized else _SMALL
    cases = {one.case.case_id: one.case for one in expand(adhoc(), parse_overrides([*axes, *size]))}
    if len(cases) != 1:
        raise UsageError(f"inspect looks into one case, and the axes make {len(cases)}: give one value to each")
    (case,) = cases.values()
    if problems := file_problems(case):
        raise UsageError(problems[0])
    return case
