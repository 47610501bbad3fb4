"""Imagined run files: times and memory follow known laws, and there are statuses of every kind."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, get_args, get_origin

import pytest

from attnbench.cases.case import make_case
from attnbench.cases.cost import flops, minimum_bytes
from attnbench.store.reader import RunFile, read_run
from attnbench.store.record import CellMetrics, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attnbench.cases.case import Case

Fields = dict[str, Any]


def header(**given: Any) -> Fields:
    """Return a header line; given fields replace defaults."""
    return {
        "kind": "header",
        "schema_version": 1,
        "run_id": "f00dfeed0001",
        "created_at": "2026-11-24T08:00:00+00:00",
        "attnbench_version": "0.1.0",
        "command": ["attnbench", "run", "scaling"],
        "request": {},
        "scenario": {"name": "scaling", "description": "Time and memory over the length.", "baseline": "slow/plain"},
        "environment": {"cpu_model": "Imaginary 9000", "cpu_logical": 2, "versions": {"torch": "2.13.0"}, "gpus": []},
        "libraries": {"torch_threads": 2},
        "peaks": {"cpu": {"tflops": {"float32": 0.36}, "gbytes_per_s": 27.2, "failed": None}},
        "machine_key": "v1-aaaa",
        "seed": 0,
        "devices": ["cpu"],
        "threads": 2,
        "replicates": 1,
        "implementations": {},
        "cells_planned": 0,
    } | given


def record(case: Case, implementation: str, **given: Any) -> Fields:
    """Return a record line of the case; ok and without numbers by default."""
    about: Fields = {"device": "cpu", "threads": 2, "layout": "bhsd", "status": "ok", "run_id": "f00dfeed0001"}
    about |= case.to_dict() | given
    made = Record(
        record_id=f"{case.case_id}-{implementation}-{given.get('device', 'cpu')}-{given.get('replicate', 0)}",
        case_id=case.case_id,
        implementation=implementation,
        repro=f"attnbench run -i '^{implementation}$' -a seqlen_q={case.seqlen_q}",
        **about,
    )
    return {"kind": "record", **made.model_dump(mode="json")}


def failed(case: Case, implementation: str, status: str, reason: str, **given: Any) -> Fields:
    """Return a record line of a cell that is not ok."""
    return record(case, implementation, status=status, stage=given.pop("stage", "call"), reason=reason, **given)


def timed(case: Case, implementation: str, median_ns: float, *, spread: float = 0.01, **given: Any) -> Fields:
    """Return a record line of an ok cell, whose interval extends by ``spread`` to both sides of the median."""
    numbers = {
        "time_samples_ns": [median_ns * (1 + spread * step) for step in (-2, -1, 0, 1, 2, 0)],
        "time_median_ns": median_ns,
        "time_ci_low_ns": median_ns * (1 - spread),
        "time_ci_high_ns": median_ns * (1 + spread),
        "time_min_ns": median_ns * (1 - 2 * spread),
        "out_error_ratio": 0.2,
        "memory_peak_bytes": 512 * case.seqlen_q,
        "flops": flops(case),
        "bytes": minimum_bytes(case),
        "peak_tflops": 0.36,
        "peak_gbytes_per_s": 27.2,
    }
    return record(case, implementation, **(numbers | given))


def full_record(case: Case, **given: Any) -> Fields:
    """Return a record line in which every metric has a value."""
    values: Fields = {}
    for name, field in CellMetrics.model_fields.items():
        kind = next(kind for kind in get_args(field.annotation) if kind is not type(None))
        values[name] = (1,) if get_origin(kind) is tuple else get_args(kind)[0] if get_origin(kind) else kind(1)
    texts: Fields = dict.fromkeys(("identities", "throttled_by", "time_sample_tags"), ("a",))
    return timed(case, "a/a", 100.0, **(values | texts | given))


def write(path: Path, records: Sequence[Fields], *, footer: bool = True, **given: Any) -> Path:
    """Write a run file with these records; header fields may be given."""
    given.setdefault("cells_planned", len(records))
    names = {line["implementation"] for line in records}
    given.setdefault("implementations", {name: {"name": name, "source_hash": "0123"} for name in sorted(names)})
    lines = [header(**given), *records]
    if footer:
        lines.append({"kind": "footer", "wall_s": 12.5, "shares": {"calls_s": 9.0}, "counts": {}, "interrupted": False})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


# time in ns and memory in bytes by length; the factors differ so much that no two tie
LAWS: dict[str, tuple[Callable[[int], float], Callable[[int], float]]] = {
    "slow/plain": (lambda n: 40_000 + 0.9 * n * n, lambda n: 8.0 * n * n),
    "slow/blocked": (lambda n: 70_000 + 0.4 * n * n, lambda n: 3_000.0 * n),
    "fast/fused": (lambda n: 90_000 + 0.1 * n * n, lambda n: 600.0 * n),
}
LENGTHS = (128, 256, 512, 1024, 2048, 4096)


def scaling(path: Path) -> Path:
    """Write a run of three working implementations, and one per way to fail; two dtypes, two masks, three processes."""
    noise = random.Random(7)
    lines = []
    for dtype in ("float32", "bfloat16"):
        for mask in ("none", "causal"):
            for tokens in LENGTHS:
                case = make_case(seqlen_q=tokens, dtype=dtype, mask=mask)
                lines += [line for replicate in range(3) for line in _laws(case, replicate, noise)]
                lines += [line for replicate in range(3) for line in _failures(case, replicate)]
    return write(path, lines, replicates=3)


def _laws(case: Case, replicate: int, noise: random.Random) -> list[Fields]:
    lines = []
    for name, (time_of, memory_of) in LAWS.items():
        median = time_of(case.seqlen_q) * (0.6 if case.mask == "causal" else 1) * noise.uniform(0.99, 1.01)
        memory = round(memory_of(case.seqlen_q))
        ratio = noise.uniform(0.05, 0.4)
        lines.append(
            timed(
                case, name, median, replicate=replicate, memory_peak_bytes=memory, out_error_ratio=ratio, backend="own"
            )
        )
    return lines


def _failures(case: Case, replicate: int) -> list[Fields]:
    lines = [failed(case, "gone/library", "unavailable", "libgone is not installed", stage="plan", replicate=replicate)]
    if case.mask == "causal":
        reason = "mask 'causal' is not declared (only none)"
        lines.append(failed(case, "picky/unmasked", "unsupported", reason, stage="plan", replicate=replicate))
    else:
        lines.append(timed(case, "picky/unmasked", 1e9, replicate=replicate, out_error_ratio=0.9))
    if case.seqlen_q == 4096:
        for name, status, reason in (
            ("bad/wrong", "wrong", f"out is {case.seqlen_q / 100} of its budget away"),
            ("bad/crash", "crashed", "the worker ended with SIGSEGV"),
            ("bad/hang", "timeout", "the cell took more than its 60 s; its worker was killed"),
            ("bad/greedy", "out_of_memory", "the worker took more than 4 GiB"),
        ):
            over = 40.96 if status == "wrong" else None
            lines.append(failed(case, name, status, reason, replicate=replicate, out_error_ratio=over))
    return lines


@pytest.fixture(scope="session")
def scaling_run(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    """Return the run that :func:`scaling` writes."""
    return read_run(scaling(tmp_path_factory.mktemp("runs") / "scaling.jsonl"))


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., RunFile]:
    """Return a function that makes a run of records: ``run_of([record, ...], name="a.jsonl", seed=3)``."""

    def made(records: Sequence[Fields], name: str = "run.jsonl", **given: Any) -> RunFile:
        return read_run(write(tmp_path / name, records, **given))

    return made
