"""A Ray cluster of several nodes on this machine, each started by ``ray start``; all end with the block."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

_START_S = 120.0
_COMMON = (
    *("--block", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"),
    "--dashboard-agent-listen-port=0",  # otherwise both nodes would use the same port
)
_PATIENCE = {"RAY_raylet_start_wait_time_s": "120", "RAY_health_check_period_ms": "1000"}
"""Busy machines start nodes slowly. A node that refuses connections is still found dead within seconds."""


@dataclasses.dataclass
class Node:
    """A node; all its processes are in the session of its ``ray start``."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Send SIGKILL to all of its processes at once."""
        for one in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self.process.wait()

    def processes(self) -> list[int]:
        """Return the ids of all processes of its session, including those that attnbench started."""
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(one.pid) == self.process.pid or _is_child_of(one, self.process.pid):
                    found.append(one.pid)
        return found


@dataclasses.dataclass
class Cluster:
    """The nodes and the address of a cluster."""

    nodes: list[Node]
    address: str
    client: str


@contextlib.contextmanager
def cluster(*variables: dict[str, str], resource: str = "device:cpu") -> Iterator[Cluster]:
    """Start a node for each set of environment variables, ``node1`` etc., with the resource; the first is the head."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, contextlib.ExitStack() as closing:
        port, client = _free_port(), _free_port()
        address = f"127.0.0.1:{port}"
        offer = f'--resources={{"{resource}": 1}}'
        head = ("--head", f"--port={port}", f"--ray-client-server-port={client}", f"--temp-dir={folder}")
        started = [_node(closing, Path(folder), "node1", variables[0], *head, "--include-dashboard=false", offer)]
        _wait_for("Ray runtime started", started[0])
        for number, own in enumerate(variables[1:], start=2):
            started.append(_node(closing, Path(folder), f"node{number}", own, f"--address={address}", offer))
        for node in started:
            _wait_for("Ray runtime started", node)
        yield Cluster(started, address, f"ray://127.0.0.1:{client}")


def _node(closing: contextlib.ExitStack, folder: Path, name: str, variables: dict[str, str], *options: str) -> Node:
    log = folder / f"{name}.log"
    command = [str(Path(sys.executable).with_name("ray")), "start", *_COMMON, f"--node-name={name}", *options]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, env={**os.environ, **_PATIENCE, **variables}
        )
    node = Node(name, process, log)
    closing.callback(node.kill)
    return node


def _is_child_of(process: psutil.Process, ancestor: int) -> bool:
    return any(one.pid == ancestor for one in process.parents())


def _wait_for(words: str, node: Node) -> None:
    until = time.monotonic() + _START_S
    while words not in node.log.read_text(errors="replace"):
        assert node.process.poll() is None, node.log.read_text(errors="replace")
        assert time.monotonic() < until, f"{node.name} does not start: {node.log.read_text(errors='replace')}"
        time.sleep(0.2)


def _free_port() -> int:
    """Return a free port outside of the range that Ray uses for its workers."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        if port > 20000:
            return port
