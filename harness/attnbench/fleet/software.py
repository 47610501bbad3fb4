"""The software of machines, and the differences between them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from attnbench.registry.discover import hash_of_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attnbench.registry.found import Found
    from attnbench.store.header import Header


@dataclasses.dataclass(frozen=True)
class Software:
    """Versions and hashes by name; a missing name is not compared."""

    versions: Mapping[str, str]


def software_of(here: Mapping[str, Any], found: Iterable[Found]) -> Software:
    """Return this process's software: Python, libraries, and hashes of attnbench's and the implementations' code.

    Args:
        here: the environment as a header keeps it; empty to leave out Python and libraries.
        found: the implementations.
    """
    import attnbench

    own = {"the code of attnbench": str(hash_of_source(attnbench.__file__))}
    return Software({**_libraries(here), **own, **{f"the code of {one.name}": str(one.source_hash) for one in found}})


def software_of_header(header: Header) -> Software:
    """Return the software that a run began with."""
    codes = {f"the code of {name}": str(about.get("source_hash")) for name, about in header.implementations.items()}
    return Software({**_libraries(header.environment), **codes})


def _libraries(here: Mapping[str, Any]) -> dict[str, str]:
    known = {"python": here.get("python"), **(here.get("versions") or {})} if here else {}
    return {name: str(version or "not installed") for name, version in known.items()}


def differences(machines: Mapping[str, Software]) -> list[str]:
    """Return one clause per name whose version differs between machines."""
    found = []
    for name in dict.fromkeys(name for one in machines.values() for name in one.versions):
        who: dict[str, list[str]] = {}
        for machine, one in machines.items():
            if name in one.versions:
                who.setdefault(one.versions[name], []).append(machine)
        if len(who) > 1:
            found.append(
                f"{name} is " + ", ".join(f"{version} on {' and '.join(ones)}" for version, ones in who.items())
            )
    return found
