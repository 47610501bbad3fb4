"""``attnbench doctor``: describe this machine, what can run on it, and how to install what is missing."""

from __future__ import annotations

import dataclasses
import json
import sys

from attnbench.api.config import read_config
from attnbench.cli.options import Json, Plugins, Switch, Threads  # noqa: TC001 - cyclopts reads them


def doctor(
    *,
    plugin: Plugins = None,
    peaks: Switch = False,
    threads: Threads = None,
    as_json: Json = False,
) -> int:
    """Look at this machine: what it is, which implementations can run, what is missing and how to get it.

    ```
    attnbench doctor --plugin my_kernel.py
    ```

    Args:
        peaks: measure matrix products and copying, too (some seconds).
    """
    from attnbench.machine import caches
    from attnbench.machine.doctor import diagnose, render_doctor
    from attnbench.machine.environment import environment, libraries
    from attnbench.machine.hardware.pinning import default_threads
    from attnbench.machine.pace.peaks import measure_peaks
    from attnbench.machine.software import extras
    from attnbench.registry.discover import find
    from attnbench.worker.memory.weighing import unsupported

    config = read_config()
    count = threads or config.threads or default_threads()
    found = find((*config.plugins, *(plugin or ())))
    report = diagnose(
        environment(),
        libraries(count, anew=True),
        [(one.name, one.unavailable) for one in found],
        extras=extras(),
        abilities=[
            ("peak memory of a call on the CPU", unsupported()),
            ("a cache in the home folder", caches.warning()),
        ],
        peaks=measure_peaks("cpu", count, quick=False) if peaks else None,
    )
    if as_json:
        sys.stdout.write(json.dumps(dataclasses.asdict(report), indent=2) + "\n")
    else:
        sys.stdout.write(render_doctor(report))
        sys.stdout.write(f"\nConfiguration: {config.path or 'none'}\n")
    return 0
