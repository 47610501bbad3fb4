"""``attnbench list``: list implementations, scenarios or devices, without heavy imports."""

from __future__ import annotations

import json
import sys

from cyclopts import App

from attnbench.api.config import read_config
from attnbench.cli.options import Json, Plugins  # noqa: TC001 - cyclopts reads them

app = App(name="list", help="List implementations, scenarios or devices.", result_action="return_value")


@app.command
def implementations(*, plugin: Plugins = None, as_json: Json = False) -> int:
    """List implementations, with the reason of each that is unavailable here.

    ```
    attnbench list implementations --plugin my_kernel.py
    ```
    """
    from attnbench.registry.discover import find
    from attnbench.registry.found import to_json

    found = find((*read_config().plugins, *(plugin or ())), load_entry_points=False)
    if as_json:
        sys.stdout.write(json.dumps([to_json(one) for one in found], indent=2) + "\n")
        return 0
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        said = one.declaration
        untested = " (untested)" if said is not None and said.untested else ""
        if one.unavailable:
            about = f"unavailable: {one.unavailable}{untested}"
        elif said is None:
            about = f"{one.origin}, not loaded for a listing"
        else:
            about = f"{'+'.join(said.devices)}  {said.summary}{untested}"
        sys.stdout.write(f"{one.name:<{width}}  {about}\n")
    return 0


@app.command
def scenarios(*, as_json: Json = False) -> int:
    """List the bundled scenarios.

    ```
    attnbench list scenarios
    ```
    """
    from attnbench.sweep.load import bundled_scenarios

    found = bundled_scenarios()
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    width = max(len(name) for name in found)
    for name, description in found.items():
        sys.stdout.write(f"{name:<{width}}  {description}\n")
    return 0


@app.command
def devices(*, as_json: Json = False) -> int:
    """List the devices of this machine, with the reason of each kind that is missing.

    ```
    attnbench list devices --json
    ```
    """
    import dataclasses

    from attnbench.machine.hardware.devices import device_unavailable
    from attnbench.machine.hardware.devices import devices as find_devices

    found = find_devices()
    if as_json:
        sys.stdout.write(json.dumps([dataclasses.asdict(one) for one in found], indent=2) + "\n")
        return 0
    for one in found:
        sys.stdout.write(f"{one.name}  {one.description}\n")
    missing = device_unavailable("cuda")
    if missing:
        sys.stdout.write(f"cuda  unavailable: {missing}\n")
    return 0
