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
