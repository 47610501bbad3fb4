"""Ray (https://docs.ray.io) as the engine: one actor per device, which nodes offer as a resource ``device:cpu``."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from attnbench.errors import UsageError
from attnbench.fleet.engine import Engine, FleetError, HolderLostError, Place, RemoteHolder
from attnbench.fleet.holder import Holder
from attnbench.untrusted.printable import in_one_line, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psutil

    from attnbench.fleet.luggage import Luggage

RESOURCE = "device:"
_CONNECT_S = 5.0
_OFFER = """--resources='{"device:cpu": 1}'"""


class RayHolder:
    """Actor with a holder. Its answers are marked as results or errors, so that a Ray error is always Ray's own."""

    def __init__(self, device: str, request: str, luggage: Luggage) -> None:
        self._asked = (device, request, luggage)
        self._holder: Holder | None = None

    def ask(self, method: str, *arguments: object) -> tuple[str, Any]:
        """Call a method of the holder, and return its answer, or the message with which it refused or failed."""
        try:
            self._holder = self._holder or _HolderBesideRay(*self._asked)
            return "answered", getattr(self._holder, method)(*arguments)
        except UsageError as error:
            return "refused", str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver has to know
            return "failed", f"{type(error).__name__}: {in_one_line(str(error))}"


class _HolderBesideRay(Holder):
    def engine_processes(self) -> list[psutil.Process]:
        import psutil

        own = psutil.Process()
        mine = {own.pid, *(child.pid for child in own.children(recursive=True))}
        return [one for one in psutil.process_iter(["cmdline"]) if one.pid not in mine and _is_ray(one.info["cmdline"])]


def _in_short(said: str) -> str:
    """Return the last line of a Ray message, which gives the cause; the first one is general."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return in_one_line(lines[-1] if lines else "it is gone")


def _client_address(address: str) -> tuple[str, int] | None:
    """Return host and port of ``ray://HOST:PORT``; ``None`` for ``ray``.

    Raises:
        UsageError: if it is neither.
    """
    if address == "ray":
        return None
    found = re.fullmatch(r"ray://([^/:\s]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", address, re.ASCII)
    if found is None:
        raise UsageError(f"--on takes ray, or ray://HOST:PORT of a cluster, not {shown(address)}")
    return found[1].strip("[]"), int(found[2])


def _require_listener(host: str, port: int) -> None:
    """Raise unless something listens there: Ray would try for half a minute and print warnings."""
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"nobody answers at ray://{host}:{port}: {getattr(error, 'strerror', None) or error}"
        ) from None


def _is_ray(words: Sequence[str] | None) -> bool:
    line = " ".join(words or ())
    return line.startswith("ray::") or "/site-packages/ray/" in line or " ray.util.client" in line


class RayEngine(Engine):
    """A Ray cluster that this process joins as a driver or connects to as a client.

    Args:
        address: ``ray`` for the local cluster or the one in ``RAY_ADDRESS``; ``ray://HOST:PORT`` for a client.

    Raises:
        UsageError: if Ray is not installed, or no cluster is reached.
    """

    name = "Ray"

    def __init__(self, address: str) -> None:
        client = _client_address(address)
        if importlib.util.find_spec("ray") is None:
            raise UsageError("--on ray needs Ray, here and on all nodes: pip install 'attnbench[ray]'")
        # Ray reports lost nodes on standard output, which belongs to the command; the driver reports lost holders.
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
        import ray

        self._ray = ray
        if client is not None:
            _require_listener(*client)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(
                address="auto" if client is None else address,
                namespace="attnbench",
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            how = f"ray start --head {_OFFER}, or --on ray://HOST:PORT"
            raise UsageError(f"no Ray cluster is reached: {in_one_line(str(error)).split('. ')[0]} ({how})") from error
        finally:
            # Ray makes SIGTERM end a driver at once; a run still has to write its footer.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)

    def places(self) -> list[Place]:
        nodes = sorted((one for one in self._ray.nodes() if one["Alive"]), key=lambda one: str(one["NodeID"]))
        names = [str(node.get("NodeName") or node["NodeManagerAddress"]) for node in nodes]
        found = []
        for node, own in zip(nodes, names, strict=True):
            name = own if names.count(own) == 1 else f"{own} ({node['NodeID'][:6]})"
            for resource, amount in sorted(node["Resources"].items()):
                if resource.startswith(RESOURCE):
                    device = resource.removeprefix(RESOURCE)
                    found += [Place(str(node["NodeID"]), f"{name} {device}", device)] * int(amount)
        if not found:
            raise FleetError(
                f"no node of the Ray cluster offers a device: start those that shall measure with {_OFFER}"
            )
        return found

    def start(self, place: Place, request: str, luggage: Luggage) -> RemoteHolder:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            self._ray.remote(RayHolder)
            .options(
                num_cpus=0,
                num_gpus=1 if place.device == "cuda" else 0,
                resources={f"{RESOURCE}{place.device}": 1},
                scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
                max_restarts=0,
            )
            .remote(place.device, request, luggage)
        )
        return _Actor(place, actor)

    def answered(self, calls: Sequence[object], timeout_s: float) -> list[object]:
        done, _ = self._ray.wait(list(calls), num_returns=1, timeout=timeout_s)
        return list(done)

    def answer(self, call: object) -> Any:
        from ray.exceptions import RayError

        try:
            kind, answer = self._ray.get(call)
        except RayError as error:
            raise HolderLostError(_in_short(str(error))) from error
        if kind == "refused":
            raise FleetError(answer)
        if kind == "failed":
            raise HolderLostError(answer)
        return answer

    def close(self) -> None:
        self._ray.shutdown()


class _Actor(RemoteHolder):
    def __init__(self, place: Place, actor: Any) -> None:
        super().__init__(place)
        self._actor = actor

    def call(self, method: str, *arguments: object) -> object:
        return self._actor.ask.remote(method, *arguments)
