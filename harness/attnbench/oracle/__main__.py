"""The oracle's process: ``python -m attnbench.oracle READ_FD WRITE_FD``."""

from __future__ import annotations

import sys

from attnbench.oracle.oracle import QUESTIONS, Adjudicator
from attnbench.transport.channel import die_with_parent, parents_channel


def main() -> None:
    """Answer the parent's questions until it closes the channel."""
    die_with_parent()
    parents_channel(int(sys.argv[1]), int(sys.argv[2])).serve(QUESTIONS, Adjudicator().answer)


if __name__ == "__main__":
    main()
