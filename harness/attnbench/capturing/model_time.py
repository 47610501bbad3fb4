"""Wall time of a model: of its outermost modules and of backward passes, in any thread."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from attnbench.capturing.clock import wait_for_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class ModelTime:
    """Sums the time in which a model runs in at least one thread."""

    def __init__(self) -> None:
        self.looks: Callable[[], int] = int
        """Returns the number of torch functions that capture has inspected so far."""
        self.looks_within = 0
        """Number of inspections within the model's time."""
        self._looks_before = 0
        self._lock = threading.Lock()
        self._running = 0
        self._since_ns = 0
        self._ns = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block as the model's."""
        with self._lock:
            if self._running == 0:
                wait_for_devices()
                self._looks_before = self.looks()
                self._since_ns = time.perf_counter_ns()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    wait_for_devices()
                    self._ns += time.perf_counter_ns() - self._since_ns
                    self.looks_within += self.looks() - self._looks_before

    @property
    def is_running(self) -> bool:
        """Whether the model runs in any thread."""
        return self._running > 0

    @property
    def seconds(self) -> float:
        """The model's time so far, in seconds."""
        return self._ns / 1e9
