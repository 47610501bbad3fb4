"""The slow network is not faster than its rate and delay allow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.predicting.slow_network import ADDRESS, unavailable, within

TALK = f"""
import json, os, socket, threading, time
here = "{ADDRESS}" if os.environ["GLOO_SOCKET_IFNAME"] != "lo" else "127.0.0.1"
with socket.create_server((here, 0)) as server, socket.create_connection(server.getsockname()) as one:
    other, _ = server.accept()
    size = 2**20
    sender = threading.Thread(target=one.sendall, args=(bytes(size),))
    began = time.monotonic()
    sender.start()
    while size:
        size -= len(other.recv(size))
    took = time.monotonic() - began
    sender.join()
    began = time.monotonic()
    one.sendall(b"a")
    other.recv(1)
    print(json.dumps([took, time.monotonic() - began]))
"""


@pytest.mark.parametrize(("rate_mbit", "delay_ms"), [(100, 0), (100, 20)])
def test_nothing_arrives_earlier_than_rate_and_delay_allow(rate_mbit: int, delay_ms: int) -> None:
    if why := unavailable():
        pytest.skip(f"no slow network here: {why}")
    line = within(f"{rate_mbit}mbit", delay_ms, [sys.executable, "-c", TALK])
    took_s, late_s = json.loads(subprocess.run(line, capture_output=True, check=True).stdout)
    assert took_s >= (2**20 - 2 * 256_000) * 8 / (rate_mbit * 1e6)  # the bucket's burst, and as much in flight
    assert late_s >= delay_ms / 1e3
