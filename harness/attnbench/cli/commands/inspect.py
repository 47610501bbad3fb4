"""``attnbench inspect``: a page about what attention does in one case, and what implementations make of it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from attnbench.cli.errors import UsageError

if TYPE_CHECKING:
    from attnbench.cases.case import Case

Strings = Annotated[list[str] | None, Parameter(negative="")]
_NAMES = ("q", "k", "v")


def inspect(
    tensors: Path | None = None,
    /,
    *,
    implementation: Annotated[Strings, Parameter(name=["--implementation", "-i"])] = None,
    exclude: Annotated[Strings, Parameter(name=["--exclude", "-x"])] = None,
    axis: Annotated[Strings, Parameter(name=["--axis", "-a"])] = None,
    plugin: Annotated[Strings, Parameter(name=["--plugin", "-p"])] = None,
    device: str = "cpu",
    batch_index: int = 0,
    out: Path | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Look into one case: mask, attention weights and entropy per head, and where implementations are off.

    Prints the page's path. Exit code 1 when an implementation disagrees with the oracle.

    Args:
        tensors: .npz or .safetensors with q, k and v of (batch, heads, seqlen, head_dim); default: values that the case
            describes.
        implementation: implementations to compare with the reference, a regular expression; repeatable; default none.
        exclude: implementations to leave out, a regular expression; repeatable.
        axis: NAME=VALUE of the case, such as seqlen=64 or mask=causal; repeatable.
        plugin: a file with implementations of your own; repeatable.
        device: cpu or cuda.
        batch_index: which batch element is shown.
        out: folder of the page; default reports/runs/inspect-CASE.
        force: replace what is there.
    """
    from attnbench.machine.pinning import default_threads
    from attnbench.registry.discover import find
    from attnbench.runner.inspect import write_inspection
    from attnbench.runner.plan import Selectors, choose
    from attnbench.sweep.expand import adhoc
    from attnbench.views.report.inspection import write_inspection_page

    if device not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}: there are cpu and cuda")
    fields = _from_file(tensors) if tensors else {}
    case = _case(list(axis or []), fields, tensors)
    if not 0 <= batch_index < case.batch:
        raise UsageError(f"batch_index {batch_index}: the case has {case.batch}")
    chosen = []
    if implementation:
        line = Selectors(include=tuple(implementation), exclude=tuple(exclude or ()))
        chosen = choose(find(tuple(plugin or ())), adhoc(), line)
    folder = out or Path("reports/runs") / f"inspect-{case.case_id}"
    if folder.exists() and not (force and (folder / "inspection.json").is_file()):
        hint = "--force replaces it" if (folder / "inspection.json").is_file() else "and it is no inspection"
        raise UsageError(f"{folder} exists already; {hint}")
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.absolute().parent) as place:
            made = Path(place) / "new"
            made.mkdir()
            write_inspection(
                case, chosen, made, device=device, batch_index=batch_index, threads=default_threads()
            )  # fmt: skip
            disagree = write_inspection_page(made)
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
    sys.stdout.write(f"{folder / 'index.html'}\n")
    return 1 if disagree else 0


def _case(axes: list[str], fields: dict[str, Any], tensors: Path | None) -> Case:
    from attnbench.sweep.expand import adhoc, expand, parse_overrides

    overrides = {**{name: [str(value)] for name, value in fields.items()}, **parse_overrides(axes)}
    cases = {planned.case.case_id: planned.case for planned in expand(adhoc(), overrides)}
    if len(cases) != 1:
        raise UsageError(f"inspect looks into one case, and the axes make {len(cases)}: give one value to each")
    (case,) = cases.values()
    for name, value in fields.items():
        if name != "inputs" and getattr(case, name) != value:
            raise UsageError(f"{tensors}: its tensors have {name} {value}, and the line says {getattr(case, name)}")
    return case


def _from_file(path: Path) -> dict[str, Any]:
    """The case's fields that tensors of a file decide.

    Raises:
        UsageError: when there are no such tensors.
    """
    from attnbench.cases.tensor_file import UNREADABLE, shape_of

    try:
        q, k, v = (shape_of(path, name) for name in _NAMES)
    except UNREADABLE as error:
        raise UsageError(f"{path}: q, k and v cannot be read: {error}") from error
    if {len(shape) for shape in (q, k, v)} != {4}:
        shapes = ", ".join(f"{name} {shape}" for name, shape in zip(_NAMES, (q, k, v), strict=True))
        raise UsageError(f"{path}: q, k and v must have the axes (batch, heads, seqlen, head_dim), not {shapes}")
    if k[:3] != v[:3] or q[0] != k[0] or q[3] != k[3]:
        raise UsageError(f"{path}: the shapes do not fit: q {q}, k {k}, v {v}")
    return {
        "batch": q[0],
        "heads_q": q[1],
        "heads_kv": k[1],
        "seqlen_q": q[2],
        "seqlen_kv": k[2],
        "head_dim": q[3],
        "head_dim_v": v[3],
        "inputs": f"file:{path.absolute()}",
    }
