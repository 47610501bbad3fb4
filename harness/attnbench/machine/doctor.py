"""``attnbench doctor``: what is available, what is missing, and how to get it.

Pure functions: all facts are arguments, so that a report can be made for any machine, including a stored header's.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from typing import TYPE_CHECKING, Any

from attnbench.machine.environment import machine_key
from attnbench.machine.interference import warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LACKING = re.compile(
    r"(?P<name>[\w.-]+) (?:is not installed|\S+ is installed, but)(?: \(?it needs (?P<spec>[^)]+)\)?)?$"
)
_DEVELOPERS = ("test",)
"""Extras that users of the command line do not need."""
_BACK_ENDS = ("fa4", "fa3", "cudnn", "sage", "flashinfer", "jax-gpu")
"""Extras of single implementations, which report what they lack themselves."""


@dataclasses.dataclass(frozen=True)
class Missing:
    """Implementations or abilities that are missing for the same reason."""

    what: tuple[str, ...]
    """Their names."""
    reason: str
    remedy: str | None
    """How to get them; ``None`` if there is no simple way."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """Findings of the doctor."""

    machine: dict[str, str]
    """Facts by label, in printing order."""
    available: tuple[str, ...]
    """Implementations that can run."""
    missing: tuple[Missing, ...]
    """Implementations and abilities that cannot be used, by reason."""
    warnings: tuple[str, ...]


def diagnose(
    environment: Mapping[str, Any],
    libraries: Mapping[str, Any],
    implementations: Iterable[tuple[str, str | None]],
    *,
    extras: Mapping[str, Mapping[str, str | None]],
    abilities: Iterable[tuple[str, str | None]] = (),
    peaks: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Build the report from the facts.

    ``extras`` maps each extra to its distributions and their versions (``None`` if not installed); ``abilities`` are
    the harness's, each with the reason why it is missing, or ``None``.
    """
    implementations = list(implementations)
    lacking = [*_own_abilities(environment, libraries, extras, peaks), *abilities, *implementations]
    by_reason: dict[str, list[str]] = {}
    for name, reason in lacking:
        if reason:
            by_reason.setdefault(reason, []).append(name)
    return Diagnosis(
        machine=_facts(environment, libraries, peaks),
        available=tuple(name for name, reason in implementations if not reason),
        missing=tuple(
            Missing(tuple(names), reason, remedy(reason, extras, str(environment.get("os"))))
            for reason, names in by_reason.items()
        ),
        warnings=tuple(warnings(environment)),
    )


def remedy(reason: str, extras: Mapping[str, Mapping[str, str | None]], system: str) -> str | None:
    """Return the remedy for a reason, or ``None`` if there is no simple one.

    ``system`` is ``Linux``, ``Darwin`` or ``Windows``.
    """
    lacking = _LACKING.match(reason)
    if lacking:
        brought_by = [f"attnbench[{extra}]" for extra, wanted in extras.items() if lacking["name"] in wanted]
        return f"pip install --upgrade '{brought_by[0] if brought_by else lacking['spec'] or lacking['name']}'"
    if "NVML, the library" in reason:
        return "these need an NVIDIA GPU; where there is one, install its driver"
    if "nvidia-ml-py" in reason:
        return "pip install nvidia-ml-py"
    if "CUDA_VISIBLE_DEVICES" in reason:
        return "unset CUDA_VISIBLE_DEVICES"
    if "built without CUDA" in reason:
        return "install a build of torch with CUDA: https://pytorch.org/get-started/locally/"
    if "C++ compiler" in reason:
        return {
            "Linux": "apt-get install g++ (or your distribution's package)",
            "Darwin": "xcode-select --install",
            "Windows": "install the Build Tools for Visual Studio",
        }.get(system)
    return None


def render_doctor(report: Diagnosis) -> str:
    """Render the report as plain text, ending in a newline."""
    width = max((len(label) for label in report.machine), default=0) + 2
    lines = ["Machine"]
    for label, fact in report.machine.items():
        lines += _wrapped(fact, first=f"  {label:<{width}}", rest=" " * (width + 2))
    lines += ["", f"Implementations: {len(report.available) or 'none'} available"]
    lines += _wrapped(", ".join(report.available))
    if report.missing:
        lines += ["", "Missing"]
    for names, reasons, remedied_by in _by_remedy(report.missing):
        lines += _wrapped(", ".join(names))
        for reason in reasons:
            lines += _wrapped(reason, "    ", "    ")
        lines += [f"    -> {remedied_by}"] if remedied_by else []  # unwrapped, so that a command can be copied
    if report.warnings:
        lines += ["", "Warnings"]
    for sentence in report.warnings:
        lines += _wrapped(sentence, "  - ", "    ")
    return "\n".join(lines) + "\n"


def _by_remedy(missing: Iterable[Missing]) -> list[tuple[list[str], list[str], str | None]]:
    """Merge what has the same remedy; return names, reasons and remedy of each entry."""
    entries: dict[str, tuple[list[str], list[str], str | None]] = {}
    for one in missing:
        names, reasons, _ = entries.setdefault(one.remedy or one.reason, ([], [], one.remedy))
        names += [name for name in one.what if name not in names]
        reasons.append(one.reason)
    return [
        (names, [own for own in reasons if not any(other != own and other.startswith(own) for other in reasons)], helps)
        for names, reasons, helps in entries.values()
    ]


def _wrapped(text: str, first: str = "  ", rest: str = "  ") -> list[str]:
    """Wrap text to 100 columns without breaking words such as ``torch/sdpa-flash`` or commands."""
    return textwrap.wrap(
        text, 100, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _own_abilities(
    environment: Mapping[str, Any],
    libraries: Mapping[str, Any],
    extras: Mapping[str, Mapping[str, str | None]],
    peaks: Mapping[str, Any] | None,
) -> list[tuple[str, str | None]]:
    """Return abilities other than implementations that users may miss, each with the reason or ``None``."""
    found: list[tuple[str, str | None]] = [("device cuda", environment.get("cuda_unavailable"))]
    if not environment.get("cxx_compiler"):
        found.append(("compiled kernels (torch.compile, C++ extensions)", "there is no C++ compiler on the path"))
    if libraries.get("failed"):
        found.append(("torch", f"asking it failed: {libraries['failed']}"))
    if peaks and peaks.get("failed"):
        found.append(("measured peaks", str(peaks["failed"])))
    for extra, wanted in extras.items():
        absent = [name for name, version in wanted.items() if version is None]
        if absent and extra not in (*_DEVELOPERS, *_BACK_ENDS):
            found += [(f"extra {extra!r}", f"{name} is not installed") for name in absent]
    return found


def _facts(
    environment: Mapping[str, Any], libraries: Mapping[str, Any], peaks: Mapping[str, Any] | None
) -> dict[str, str]:
    """Return facts by label; unknown ones are left out."""
    get = environment.get
    versions = {name: version for name, version in (get("versions") or {}).items() if version}
    facts = {
        "system": _words(get("os"), get("kernel"), get("libc")),
        "python": _words(get("python_implementation"), get("python")),
        "cpu": _words(get("cpu_model")),
        "cores": _cores(environment),
        "instructions": _words(*(get("cpu_instructions") or ())),
        "caches": ", ".join(f"{name} {_size(size)}" for name, size in (get("cpu_cache_bytes") or {}).items()),
        "memory": _memory(environment),
        "gpus": "; ".join(_gpu(gpu) for gpu in get("gpus") or []),
        "c++ compiler": _words(get("cxx_compiler")),
        "torch": _torch(libraries),
        "blas, openmp": ", ".join(_pool(pool) for pool in libraries.get("thread_pools") or []),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "peaks": _peaks(peaks or {}),
        "machine key": machine_key(environment),
    }
    return {label: fact for label, fact in facts.items() if fact}


def _cores(environment: Mapping[str, Any]) -> str:
    physical, logical = environment.get("cpu_physical"), environment.get("cpu_logical")
    usable, limit = environment.get("cpu_usable"), environment.get("cpu_limit")
    said = [f"{physical} physical"] if physical else []
    said += [f"{logical} logical"] if logical else []
    said += [f"{len(usable)} usable"] if usable else []
    said += [f"limited to {limit:g}"] if limit else []
    return ", ".join(said)


def _memory(environment: Mapping[str, Any]) -> str:
    named = (("memory_total_bytes", "in all"), ("memory_available_bytes", "free"), ("memory_limit_bytes", "allowed"))
    return ", ".join(f"{_size(environment[name])} {word}" for name, word in named if environment.get(name))


def _gpu(gpu: Mapping[str, Any]) -> str:
    """Describe a GPU with the facts that determine its speed: compute capability, clock and power limits."""
    get = gpu.get
    said = [f"{gpu['name']} ({_size(gpu['memory_total_bytes'])})"]
    for name, sentence in (
        ("compute_capability", "compute capability {}"),
        ("sm_clock_max_mhz", "SM clock up to {} MHz"),
        ("power_limit_w", "power limit {:g} W"),
        ("temperature_c", "{} °C"),
        ("driver", "driver {}"),
    ):
        said += [sentence.format(get(name))] if get(name) is not None else []
    return ", ".join(said)


def _torch(libraries: Mapping[str, Any]) -> str:
    if "torch_threads" not in libraries:
        return ""
    said = [f"{libraries['torch_threads']} threads", f"CPU kernels for {libraries.get('torch_cpu_capability')}"]
    said += [f"BLAS {libraries['torch_blas']}"] if libraries.get("torch_blas") else []
    said += ["oneDNN"] if libraries.get("torch_onednn") else []
    said += [f"CUDA {libraries['torch_cuda']}" if libraries.get("torch_cuda") else "no CUDA"]
    return ", ".join(said)


def _pool(pool: Mapping[str, Any]) -> str:
    return f"{_words(pool.get('internal_api'), pool.get('version'))} ({pool.get('num_threads')} threads)"


def _peaks(peaks: Mapping[str, Any]) -> str:
    said = [f"{dtype} {rate:.3g} TFLOP/s" for dtype, rate in (peaks.get("tflops") or {}).items()]
    bandwidth = peaks.get("gbytes_per_s")
    said += [f"copy {bandwidth:.3g} GB/s"] if bandwidth else []
    said += [f"read {peaks['read_gbytes_per_s']:.3g} GB/s"] if peaks.get("read_gbytes_per_s") else []
    return ", ".join(said)


def _words(*parts: object) -> str:
    return " ".join(str(part) for part in parts if part is not None)


def _size(size: int | None) -> str:
    """Format bytes in powers of 1024."""
    if size is None:
        return "unknown"
    for unit, step in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= step:
            return f"{size / step:.4g} {unit}"
    return f"{size} B"
