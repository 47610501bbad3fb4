"""A worker's process: ``python -m attnbench.worker READ_FD WRITE_FD THREADS``.

Every request is answered with data, or with a status and a sentence; the parent notices a worker that cannot answer
because it crashed or hangs.
"""

from __future__ import annotations

import faulthandler
import sys

from attnbench.machine.hardware.pinning import pin, processors_of_threads
from attnbench.stages.table import REQUESTS
from attnbench.transport.channel import die_with_parent, parents_channel
from attnbench.worker.memory.weighing import prepare_allocator
from attnbench.worker.worker import Worker


def main() -> None:
    """Serve requests until the parent closes the channel."""
    die_with_parent()
    faulthandler.enable()
    channel = parents_channel(int(sys.argv[1]), int(sys.argv[2]))
    pin(int(sys.argv[3]))
    prepare_allocator()
    channel.serve(REQUESTS, Worker(owns_process=True, processors=processors_of_threads() or None).answer)


if __name__ == "__main__":
    main()
