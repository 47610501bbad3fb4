"""A process that tries mutants: ``python -m attnbench.mutants READ_FD WRITE_FD``."""

from __future__ import annotations

import collections
import gc
import sys
import warnings
from typing import TYPE_CHECKING

from attnbench.machine.warm_up_libraries import warm_up_torch
from attnbench.mutants.collection import mutants
from attnbench.mutants.messages import About, List, Mutants, Tried, Try
from attnbench.mutants.trial import BrokenMutantError, trial
from attnbench.transport.channel import die_with_parent, parents_channel
from attnbench.transport.message import Failure

if TYPE_CHECKING:
    from attnbench.transport.message import AnswerMessage

ENOUGH = 3
"""A mutant that this many cases have caught is not tried again."""


def main() -> None:
    """Answer the parent's requests until it closes the channel."""
    die_with_parent()
    warnings.simplefilter("ignore")  # mutants overflow on purpose
    channel = parents_channel(int(sys.argv[1]), int(sys.argv[2]))
    warm_up_torch(threads=1)
    everything = mutants()
    catches = collections.Counter[str]()
    gc.collect()
    gc.freeze()  # spares the garbage collections between trials the imported modules

    def answer(request: List | Try) -> AnswerMessage | Failure:
        if isinstance(request, List):
            return Mutants(mutants=tuple(About(name=m.name, sentence=m.sentence, copies=m.copies) for m in everything))
        again = request.again
        at_large = [m for m in everything if (catches[m.name] < ENOUGH if again is None else m.name in again)]
        try:
            said = trial(request.case, at_large, identities=again is not None)
        except BrokenMutantError as error:
            return Failure(status="error", reason=str(error))
        catches.update(name for name, reason in said.items() if reason is not None)
        return Tried(said=said)

    channel.serve((List, Try), answer)


if __name__ == "__main__":
    main()
