"""Writes captured calls as a runnable scenario."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from attnbench.capturing.layers import in_short
from attnbench.capturing.tensors import save_tensors
from attnbench.store.capture import SCENARIO
from attnbench.units import count, number
from attnbench.untrusted.printable import in_one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from attnbench.capturing.distinct import Distinct
    from attnbench.cases.case import Case

_TAGS = ["captured"]


def write_scenario(calls: Sequence[Distinct], command: str, folder: Path) -> list[str]:
    """Write ``scenario.toml``, with the masks and biases that it needs, into a folder.

    Returns:
        The names of the shapes, in the order of the calls.

    Raises:
        OSError: if it cannot be written.
    """
    import torch

    total = math.fsum(call.seconds for call in calls)
    lines = [
        f"description = {_toml(f'Captured by: {command}'[:500])}",
        f"tags = {_toml(_TAGS)}",
    ]
    names = [f"call-{n}" for n in range(1, len(calls) + 1)]
    for name, call in zip(names, calls, strict=True):
        spec = call.tally.spec
        fields = {"mode": call.tally.mode, **spec.fields()}
        if spec.mask.tensor is not None:
            fields["mask_file"] = save_tensors(folder, {"mask": torch.from_numpy(spec.mask.tensor)})
        if spec.bias is not None:
            fields["bias_file"] = save_tensors(folder, {"bias": spec.bias})
        if call.tally.inputs is not None:
            fields["inputs"] = f"file:{call.tally.inputs}"
        lines += ["", *(f"# {in_one_line(line)}" for line in _comments(call, total)), f"[shapes.{name}]"]
        lines += [f"{field} = {_toml(value)}" for field, value in _short(fields).items()]
    (folder / SCENARIO).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return names


def captured_cases(folder: Path) -> dict[str, Case]:
    """Return the cases of a capture's scenario, by shape.

    Raises:
        UsageError: if the scenario cannot be read.
    """
    from attnbench.sweep.expand import expand
    from attnbench.sweep.load import load_scenario

    planned = expand(load_scenario(str(folder / SCENARIO)), {})
    return {shape: one.case for one in planned for shape in one.tags}


def _comments(call: Distinct, total: float) -> list[str]:
    """Return comments for a shape: calls, layers, share of time, and the range of lengths if there are several."""
    share = f"{number(100 * call.seconds / total)} % of attention time" if total else "no time"
    said = [f"{count(call.calls, 'call')}, {_layers(call.layers)}, {share}"]
    for what, (least, most), taken in (
        ("seqlen_q", call.seqlen_q, call.tally.spec.seqlen_q),
        ("seqlen_kv", call.seqlen_kv, call.tally.spec.seqlen_kv),
    ):
        if least != most:
            said.append(f"{what} is {least} to {most} in these calls; {taken} is nearest to the mean of their work")
    if call.memory == ("bshd",):
        said.append(
            'in memory tokens lie before heads (bshd): strides = "transposed" for implementations of layout bhsd'
        )
    elif call.memory != ("bhsd",):
        said.append(f"in memory: {'; '.join(call.memory)}")
    return said


def _layers(layers: Sequence[str]) -> str:
    if not layers:
        return "outside of modules"
    return f"{'layer' if len(layers) == 1 else 'layers'} {in_short(layers)}"


def _short(fields: Mapping[str, object]) -> dict[str, object]:
    """Drop fields that equal a case's defaults, and merge equal ``_q`` and ``_kv`` fields under one name."""
    usual = {
        "mode": "forward", "score_mod": "none", "mask": "none", "scale": 1 / math.sqrt(float(str(fields["head_dim"]))),
        "head_dim_v": fields["head_dim"],
    }  # fmt: skip
    kept = {name: value for name, value in fields.items() if usual.get(name) != value}
    for name in ("heads", "seqlen"):
        both = f"{name}_q", f"{name}_kv"
        if kept[both[0]] == kept[both[1]]:
            kept = {name if n == both[0] else n: v for n, v in kept.items() if n != both[1]}
    return kept


def _toml(value: object) -> str:
    """Return a value in TOML syntax, which equals JSON's for texts, lists and numbers."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=True)
