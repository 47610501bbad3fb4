"""The loop of a process that tries mutants: ``python -m attnbench.mutants READ_FD WRITE_FD``."""

from __future__ import annotations

import collections
import gc
import sys
import warnings

from attnbench.cases.case import make_case
from attnbench.machine.warm_up_libraries import warm_up_torch
from attnbench.mutants.collection import mutants
from attnbench.mutants.trial import BrokenMutantError, trial
from attnbench.transport.pipe import Channel, die_with_parent

ENOUGH = 3
"""A mutant that so many cases have caught is tried no more."""


def main() -> None:
    """Answer each case with what the check says of every mutant, until the parent hangs up.

    Mutants that are named to be tried ``again`` are tried with identities too.
    """
    die_with_parent()
    warnings.simplefilter("ignore")  # a mutant's, of overflows that are its mistake
    channel = Channel(int(sys.argv[1]), int(sys.argv[2]))
    warm_up_torch(threads=1)
    everything = mutants()
    catches = collections.Counter[str]()
    gc.collect()
    gc.freeze()  # what was imported stays: collecting garbage between trials need not look at it again
    about = [{"name": m.name, "sentence": m.sentence, "copies": m.copies} for m in everything]
    while (request := channel.receive()) is not None:
        if request["do"] == "start":
            channel.send({"status": "ok", "mutants": about})
            continue
        try:
            again = request.get("again")
            at_large = [m for m in everything if (catches[m.name] < ENOUGH if again is None else m.name in again)]
            said = trial(make_case(**request["case"]), at_large, identities=again is not None)
            catches.update(name for name, reason in said.items() if reason is not None)
            channel.send({"status": "ok", "said": said})
        except BrokenMutantError as error:
            channel.send({"status": "error", "reason": str(error)})


if __name__ == "__main__":
    main()
