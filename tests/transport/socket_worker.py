"""A worker behind a socket: ``python socket_worker.py`` prints the port, and serves the first connection."""

import socket
import sys

from attnbench.stages.table import REQUESTS
from attnbench.transport.channel import Channel
from attnbench.worker.worker import Worker


def main() -> None:
    """Serve until the connection is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        connection, _ = server.accept()
    with connection:
        Channel(connection.recv, connection.send).serve(REQUESTS, Worker(owns_process=True).answer)


if __name__ == "__main__":
    main()
