"""The state of a worker between requests."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import gc
from attnbench.worker.worker import Worker

worker = Worker(owns_process={owns})
gc.unfreeze()
worker.loaded()
print(gc.get_freeze_count() > 1000)
"""


@pytest.mark.parametrize(("owns", "said"), [(True, "True\n"), (False, "False\n")])
def test_what_was_imported_is_no_garbage_to_look_for_before_each_reading(owns: bool, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(owns=owns)], capture_output=True, text=True, check=True)
    assert done.stdout == said


HELD = """
import gc, types, weakref
from attnbench.worker.worker import Worker

worker = Worker(owns_process=True)
worker.loaded()
worker._session = types.SimpleNamespace(close=gc.collect)
held, frozen = type("Held", (), {})(), gc.get_freeze_count()
held.itself, gone = held, weakref.ref(held)
worker.before_weighing()
print(gc.get_freeze_count() > frozen)
del held
worker.end()
print(gone() is None, gc.get_freeze_count() > 1000)
"""


def test_what_the_first_cell_holds_while_it_is_weighed_goes_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert done.stdout == "True\nTrue True\n"
