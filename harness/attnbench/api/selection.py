"""Converts a caller's arguments (texts, lists, mappings, functions) to a request."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from attnbench.api.config import read_config
from attnbench.errors import UsageError
from attnbench.registry.implementation import Implementation
from attnbench.untrusted.printable import shown

if TYPE_CHECKING:
    from attnbench.api.progress import Log
    from attnbench.runner.planning.request import Request

Texts = str | Sequence[str]
"""One text or several."""
Axes = Texts | Mapping[str, object]
"""``"seqlen=128,1k"``, several of them, or ``{"seqlen": [128, 1024]}``."""
Plugin = str | os.PathLike[str] | Implementation
Plugins = Plugin | Sequence[Plugin]
"""``FILE.py``, ``FILE.py:family/variant``, or a function in a file decorated with ``@attention``; or several."""


class CellOptions(TypedDict, total=False):
    """Arguments that select cells, for functions that compare revisions; absent means ``None``."""

    include: Texts | None
    """Implementations: regular expressions."""
    exclude: Texts | None
    """Implementations to leave out: regular expressions."""
    axis: Axes | None
    """Values in place of the scenario's, as of :func:`attnbench.run`."""
    plugin: Plugins | None
    """Plug-ins that all revisions get, as of :func:`attnbench.run`."""
    device: Texts | None
    """``"cpu"``, ``"cuda"``, or both."""
    threads: int | None
    """Threads of each worker on the CPU; default one less than there are cores, for the rest of the machine."""


_FLAGS = {"include": "-i", "exclude": "-x", "axis": "-a", "plugin": "-p", "device": "-d"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellSelection:
    """A selection of cells as texts of the command line; what is not given is empty or ``None``."""

    scenario: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    axis: tuple[str, ...] = ()
    plugin: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    threads: int | None = None
    seed: int | None = None
    ranks: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        scenario: str | os.PathLike[str] | None = None,
        include: Texts | None = None,
        exclude: Texts | None = None,
        axis: Axes | None = None,
        plugin: Plugins | None = None,
        device: Texts | None = None,
        threads: int | None = None,
        seed: int | None = None,
        ranks: int | Sequence[int] | None = None,
    ) -> CellSelection:
        """Convert a caller's arguments.

        Raises:
            UsageError: a plug-in is a function that workers cannot import.
        """
        return cls(
            scenario=None if scenario is None else os.fspath(scenario),
            include=texts(include),
            exclude=texts(exclude),
            axis=axis_texts(axis),
            plugin=plugin_texts(plugin),
            device=texts(device),
            threads=threads,
            seed=seed,
            ranks=(ranks,) if isinstance(ranks, int) else tuple(ranks or ()),
        )

    def words(self) -> list[str]:
        """Return the part of a command line that selects the same cells."""
        fields = dataclasses.asdict(self)
        scenario = fields.pop("scenario")
        return [*([] if scenario is None else [scenario]), *words(**fields)]

    def request(
        self,
        log: Log,
        *,
        replicates: int | None = None,
        cache: Literal["warm", "cold"] = "warm",
        only_agreement: bool = False,
    ) -> Request:
        """Return the request, with the defaults of ``[tool.attnbench]`` filled in.

        Args:
            log: receives a message for each device that is left out.
            replicates: fresh processes for each cell.
            cache: ``warm`` or ``cold``.
            only_agreement: whether time and memory are left out.

        Raises:
            UsageError: the scenario is malformed, a number is out of bounds, or a device is unknown.
        """
        _require_no_import()
        from attnbench.machine.hardware.pinning import default_threads
        from attnbench.runner.planning.request import BOUNDS, Request
        from attnbench.sweep.expand import adhoc, parse_overrides
        from attnbench.sweep.load import load_scenario

        config = read_config()
        scenario = load_scenario(self.scenario) if self.scenario else adhoc()
        given = {
            "threads": _first(self.threads, config.threads, default_threads()),
            "replicates": _first(replicates, config.replicates, 1),
            "seed": _first(self.seed, config.seed, 0),
        }
        for name, value in (*given.items(), *(("ranks", count) for count in self.ranks)):
            least, most = BOUNDS[name]
            if value < least:
                raise UsageError(f"{name} must be at least {least}, not {shown(value)}")
            if value > most:
                raise UsageError(f"{name} must be at most {most:,}, not {shown(value)}")
        devices = self.device or config.devices
        for one in devices:
            require_device(one)
        return Request(
            scenario=scenario,
            overrides=parse_overrides(self.axis),
            include=self.include,
            exclude=self.exclude,
            plugins=(*config.plugins, *self.plugin),
            devices=devices or _present(scenario.devices, log),
            seed=given["seed"],
            cache=cache,
            stages=("agreement",) if only_agreement else tuple(scenario.stages),
            threads=given["threads"],
            all_cores=self.threads is None and config.threads is None,
            replicates=given["replicates"],
            ranks=self.ranks or scenario.ranks,
        )


def texts(given: Texts | None) -> tuple[str, ...]:
    """Return one text or several as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def axis_texts(given: Axes | None) -> tuple[str, ...]:
    """Return ``NAME=VALUE[,VALUE...]`` for each axis."""
    if isinstance(given, Mapping):
        return tuple(f"{name}={_values(value)}" for name, value in given.items())
    return texts(given)


def plugin_texts(given: Plugins | None) -> tuple[str, ...]:
    """Return ``FILE.py`` or ``FILE.py:family/variant`` for each plug-in.

    Raises:
        UsageError: a function is no implementation, or is not defined in a file.
    """
    if given is None:
        return ()
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    return tuple(map(_plugin_text, several))


def require_device(name: str) -> None:
    """Raise unless a device is known.

    Raises:
        UsageError: it is not.
    """
    if name not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}: there are cpu and cuda")


def words(of: Callable[..., object] | None = None, /, **options: object) -> list[str]:
    """Return options of a command line, without those that are ``None``, false or empty; lists become repeated options.

    Options that equal the default of the function ``of`` are left out as well.
    """
    defaults = inspect.signature(of).parameters if of else {}
    spelled: list[str] = []
    for name, value in options.items():
        flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
        if value is True:
            spelled.append(flag)
        elif value is not None and value is not False and not (name in defaults and value == defaults[name].default):
            for one in value if isinstance(value, tuple | list) else [value]:
                spelled += [flag, str(one)]
    return spelled


def _require_no_import() -> None:
    """Raise in a worker: it imports the script that defines a plug-in, which must not start a run there.

    Raises:
        UsageError: this process is a worker.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None and spec.name.startswith("attnbench.") and spec.name != "attnbench.__main__":
        raise UsageError(
            "a plug-in's file calls attnbench while it is imported: put the calls below if __name__ == '__main__':"
        )


def _values(value: object) -> str:
    several = value if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return ",".join(map(str, several))


def _plugin_text(plugin: object) -> str:
    if isinstance(plugin, str | os.PathLike):
        return os.fspath(plugin)
    if not isinstance(plugin, Implementation):
        raise UsageError(f"{plugin!r} is no plug-in: give FILE.py, or a function decorated with @attention(...)")
    name, file = plugin.declaration.name, plugin.file
    if not Path(file).is_file():
        raise UsageError(
            f"{name} is defined in no file (a notebook's cell, say), and workers are processes that import it from "
            "one: write it to FILE.py, such as with %%writefile, and give plugin='FILE.py'"
        )
    return f"{file}:{name}"


def _first(given: int | None, configured: int | None, default: int) -> int:
    """Return the caller's value, else the configured one, else the default."""
    return next(value for value in (given, configured, default) if value is not None)


def _present(devices: Sequence[str], log: Log) -> tuple[str, ...]:
    """Return a scenario's devices without those that this machine lacks, or all of them if it lacks all."""
    from attnbench.machine.hardware.devices import device_unavailable

    missing = {one: reason for one in devices if (reason := device_unavailable(one))}
    if len(missing) == len(devices):
        return tuple(devices)
    for one, reason in missing.items():
        log.says(f"left out: {one}, which the scenario names; {reason}")
    return tuple(one for one in devices if one not in missing)
