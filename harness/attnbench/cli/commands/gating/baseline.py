"""``attnbench baseline``: store runs that later ones are compared with."""

from __future__ import annotations

import dataclasses
import json
import sys

from cyclopts import App

from attnbench.cli.options import Json  # noqa: TC001 - cyclopts reads it
from attnbench.units import count

app = App(name="baseline", help="Runs that attnbench gate --baseline judges against: save, update, list.")


@app.command
def save(run: str, /, *, name: str | None = None) -> int:
    """Store a run as the baseline of the machine that it was measured on; prints where.

    ```
    attnbench baseline save run.jsonl --name nightly
    ```

    Args:
        run: a run file with three processes for each cell or more (attnbench run SCENARIO --replicates 6).
        name: of the baseline; default the scenario's.
    """
    from attnbench.gate.baselines import save as store
    from attnbench.store.reader import read_run

    sys.stdout.write(f"{store(read_run(run), name)}\n")
    return 0


@app.command(alias="bless")
def update(run: str, /, *, reason: str, name: str | None = None) -> int:
    """Replace a baseline, although the run may be slower; the one before is kept beside it. Prints where.

    ```
    attnbench baseline update run.jsonl --reason 'exact sums cost 3 %'
    ```

    Args:
        run: a run file.
        reason: why this is what is to be expected from now on; stored with it.
        name: of the baseline; default the scenario's.
    """
    from attnbench.gate.baselines import update as replace
    from attnbench.store.reader import read_run

    sys.stdout.write(f"{replace(read_run(run), reason, name)}\n")
    return 0


@app.command(name="list")
def list_baselines(*, as_json: Json = False) -> int:
    """List the baselines in results/baselines, and which of them are of this machine.

    ```
    attnbench baseline list
    ```
    """
    from attnbench.gate.baselines import stored
    from attnbench.machine.environment import environment, machine_key

    found = stored()
    if as_json:
        sys.stdout.write(
            json.dumps([dataclasses.asdict(one) | {"path": str(one.path)} for one in found], indent=2) + "\n"
        )
        return 0
    here = machine_key(environment())
    for one in found:
        where = "this machine" if one.machine_key == here else f"another machine, {one.machine_key}"
        updated = f"; updated: {one.note}" if one.note else ""
        sys.stdout.write(
            f"{one.name:<20} {one.created_at[:10]}  {(one.revision or 'no git')[:10]:<10}  {count(one.cells, 'cell')}, "
            f"{one.processes} processes each; {where}{updated}\n"
        )
    if not found:
        sys.stderr.write("attnbench: no baseline in results/baselines; attnbench baseline save RUN.jsonl stores one\n")
    return 0
