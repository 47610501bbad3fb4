"""Defaults from ``[tool.attnbench]`` of the nearest ``pyproject.toml``; options of a command take precedence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from attnbench.errors import UsageError
from attnbench.untrusted.toml_text import parse_toml


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of the file; those that it lacks are ``None`` or empty."""

    path: Path | None = None
    plugins: tuple[str, ...] = ()
    """``file.py`` or ``file.py:family/variant``; in the file, paths are relative to its folder."""
    threads: int | None = None
    replicates: int | None = None
    seed: int | None = None
    devices: tuple[str, ...] = ()


_TYPES: dict[str, type] = {"plugins": list, "threads": int, "replicates": int, "seed": int, "devices": list}


def read_config(start: Path | None = None) -> Config:
    """Read ``[tool.attnbench]`` from the first ``pyproject.toml`` that has it, from a folder (the current one) upward.

    Raises:
        UsageError: the table is malformed.
    """
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        path = candidate / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            table = parse_toml(path.read_bytes()).get("tool", {}).get("attnbench")
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {error}") from error
        if table is not None:
            return _checked(path, table)
    return Config()


def _checked(path: Path, table: dict[str, object]) -> Config:
    from attnbench.sweep.nearest import unknown

    problems = []
    for key, value in table.items():
        if key not in _TYPES:
            problems.append(f"{key}: {unknown('key', key, _TYPES)}")
        elif not isinstance(value, _TYPES[key]) or isinstance(value, bool):
            problems.append(f"{key} must be {_TYPES[key].__name__}, not {value!r}")
        elif isinstance(value, list) and not all(isinstance(item, str) for item in value):
            problems.append(f"{key} must be a list of strings")
    if problems:
        raise UsageError(f"{path}, [tool.attnbench]: " + "; ".join(problems))
    plugins, devices = table.get("plugins", []), table.get("devices", [])
    assert isinstance(plugins, list)
    assert isinstance(devices, list)
    return Config(
        path=path,
        plugins=tuple(str(path.parent / plugin) for plugin in plugins),
        devices=tuple(devices),
        **{key: value for key, value in table.items() if key in ("threads", "replicates", "seed")},  # type: ignore[arg-type]  # checked above
    )
