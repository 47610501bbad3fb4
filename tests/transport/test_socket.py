"""A worker that is reached over TCP, with another executor and host; nothing else in the harness changes."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from attnbench.machine.hardware.pinning import worker_environment
from attnbench.registry.discover import bundled
from attnbench.runner.planning.plan import plan
from attnbench.runner.run import Outcome, Setting, execute
from attnbench.runner.time_accounting import Shares
from attnbench.stages.stage import CellLimits
from attnbench.store.writer import RunWriter
from attnbench.sweep.expand import adhoc, parse_overrides
from attnbench.transport.executor import Executor, ExecutorError, StreamExecutor
from attnbench.transport.host import LocalHost
from attnbench.worker.timing import SamplingLimits
from tests.conftest import PLUGINS, records_of

GIB = 2**30


class SocketExecutor(StreamExecutor):
    """A worker at the other end of a connection."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._socket = socket.create_connection(("127.0.0.1", port))

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self, size: int) -> bytes:
        with contextlib.suppress(ConnectionError):
            return self._socket.recv(size)
        return b""

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def has_ended(self) -> bool:
        return False  # only the stream's end can be seen

    def ending(self) -> ExecutorError:
        return ExecutorError("crashed", "the connection was closed", is_gone=True)

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def resident_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self._socket.close()


@dataclasses.dataclass(frozen=True)
class OverTcp(LocalHost):
    """A host that starts workers listening on the loopback, and connects to them."""

    processes: list[subprocess.Popen[str]] = dataclasses.field(default_factory=list)

    def start_worker(self, threads: int, environment: Mapping[str, str], interpreter: str | None = None) -> Executor:
        del threads
        command = [interpreter or self.python, "-P", str(Path(__file__).with_name("socket_worker.py"))]
        process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        assert process.stdout is not None
        return SocketExecutor(int(process.stdout.readline()))


@pytest.fixture
def host() -> Iterator[OverTcp]:
    host = OverTcp(sys.executable)
    yield host
    for process in host.processes:
        process.kill()
        process.communicate()


class Silent:
    def begins(self, cell: object) -> None: ...

    def enters(self, cell: object, stage: str) -> None: ...
    def ended(self, cell: object, record: object) -> None: ...
    def says(self, sentence: str) -> None: ...


def run(host: OverTcp, found: Any, path: Path, *axes: str) -> tuple[Outcome, list[dict[str, Any]]]:
    cells = plan(
        adhoc(), parse_overrides(list(axes)), found, ["cpu"], replicates=1, seed=0, memory_bytes=GIB, host=host
    )
    sampling = SamplingLimits(min_samples=5, max_samples=5)
    limits = CellLimits(time_s=120, memory_bytes=GIB, measures=frozenset({"time", "memory"}), sampling=sampling)
    setting = Setting(
        run_id="r", threads=1, environment=worker_environment(1), limits=limits, peaks={}, host=host
    )  # fmt: skip
    writer = RunWriter.create(path, {"kind": "header"}, force=False)
    outcome = execute(cells, setting, writer, Silent(), Shares())
    writer.close()
    return outcome, records_of(path)


def test_a_cell_runs_to_its_record(host: OverTcp, tmp_path: Path) -> None:
    found = [one for one in bundled() if one.name == "naive/numpy"]
    outcome, records = run(host, found, tmp_path / "run.jsonl", "seqlen=32,48", "heads=2", "head_dim=8")
    assert outcome.exit_code == 0
    assert len(host.processes) == 1, "the worker is kept from cell to cell"
    for record in records:
        assert (record["status"], record["implementation"], record["rows_checked"]) == (
            "ok",
            "naive/numpy",
            2 * record["seqlen_q"],
        )
        assert 0 < record["out_error_ratio"] <= 1, "its output was judged"
        assert len(record["time_samples_ns"]) == 5
        assert record["memory_peak_bytes"] >= record["memory_output_bytes"]
    assert host.processes[0].wait(30) == 0, "it ends when the parent hangs up"


def test_a_worker_that_dies_costs_one_cell(host: OverTcp, tmp_path: Path) -> None:
    from attnbench.registry.discover import from_file

    found = [one for one in from_file(str(PLUGINS / "faults.py")) if one.name == "faults/exit"]
    outcome, records = run(host, found, tmp_path / "run.jsonl", "seqlen=16,32", "heads=2", "head_dim=8")
    assert outcome.exit_code == 4
    by_length = {record["seqlen_q"]: record for record in records}
    assert by_length[16]["status"] == "ok"
    assert (by_length[32]["status"], by_length[32]["reason"]) == ("crashed", "the connection was closed")
