"""A slow network on one machine: ``python -m tests.predicting.slow_network RATE DELAY_MS COMMAND...``.

The command runs in a network namespace of its own, where one link carries what all ranks send: the loopback interface,
to which a token bucket (tc-tbf) gives its rate. For a delay it is a TUN device, and a relay hands each packet back
after that time, as tc-netem would, which not every kernel has. It needs root, ``ip`` and ``tc``.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

ADDRESS = "10.77.0.1"
DEVICE = "slow0"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU = 65000


def unavailable() -> str | None:
    """Return why there can be no such network here, or ``None``."""
    missing = [name for name in ("unshare", "ip", "tc") if shutil.which(name) is None]
    if missing:
        return f"{missing[0]} is not installed"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    tried = [sys.executable, "-m", __name__, "1gbit", "5", "true"]
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"it is not permitted: {(done.stderr.strip() or '?').splitlines()[-1]}"


def within(rate: str, delay_ms: float, command: list[str]) -> list[str]:
    """Return the command line that runs a command in such a network."""
    return [sys.executable, "-m", "tests.predicting.slow_network", rate, str(delay_ms), *command]


def main() -> int:
    """Enter a namespace, set up the network, and run the command."""
    rate, delay_ms, *command = sys.argv[1:]
    if os.environ.get("ATTNBENCH_SLOW_NETWORK") != str(os.getppid()):
        again = ["unshare", "--net", "--", sys.executable, "-m", "tests.predicting.slow_network", *sys.argv[1:]]
        # unshare becomes the interpreter: this process is its parent
        return subprocess.run(
            again, env={**os.environ, "ATTNBENCH_SLOW_NETWORK": str(os.getpid())}, check=False
        ).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    link = DEVICE if float(delay_ms) else "lo"
    if link == DEVICE:
        _add_device(float(delay_ms) / 1e3)
    bucket = f"tc qdisc add dev {link} root tbf rate {rate} burst 256kb latency 400ms"
    subprocess.run(bucket.split(), check=True)
    return subprocess.run(command, env={**os.environ, "GLOO_SOCKET_IFNAME": link}, check=False).returncode


def _add_device(delay_s: float) -> None:
    """Route packets to this machine's own address out through a TUN device and back."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    for line in (
        f"ip address add {ADDRESS}/24 dev {DEVICE}",
        f"ip link set {DEVICE} up mtu {_MTU} txqueuelen 10000",
        f"ip rule add pref 5 iif lo to {ADDRESS} lookup 77",
        f"ip route add default dev {DEVICE} table 77",
        "ip rule add pref 10 lookup local",
        "ip rule del pref 0",
    ):
        subprocess.run(line.split(), check=True)
    Path("/proc/sys/net/ipv4/tcp_slow_start_after_idle").write_text("0")  # as on machines of a cluster
    for name, value in (("accept_local", "1"), ("rp_filter", "0")):
        for where in ("all", DEVICE):
            Path(f"/proc/sys/net/ipv4/conf/{where}/{name}").write_text(value)
    threading.Thread(target=_relay, args=(device, delay_s), daemon=True).start()


def _relay(device: int, delay_s: float) -> None:
    """Hand each packet back to the kernel after the delay."""
    waiting: collections.deque[tuple[float, bytes]] = collections.deque()
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        select.select([device], [], [], left)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.append((time.monotonic() + delay_s, os.read(device, _MTU + 100)))
        while waiting and waiting[0][0] <= time.monotonic():
            os.write(device, waiting.popleft()[1])


if __name__ == "__main__":
    sys.exit(main())
