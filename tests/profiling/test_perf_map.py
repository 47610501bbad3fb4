"""Names of compiled code, read from the file that a library writes for perf."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attnbench import make_case
from attnbench.machine.hardware.pinning import worker_environment
from attnbench.profiling.code.perf_map import PerfMap, own_perf_map
from attnbench.profiling.phases import Phase
from attnbench.stages.prepare import Load, Prepare
from attnbench.stages.profile import NAMING_VARIABLES, TakeProfile
from attnbench.transport.host import LOCAL_HOST

TEXT = "1000 20 multiply.0\n2000 10 gone.1\nno line\n1020 8 multiply.2\n2000 40 copy.3\nffff -1 bad.4\n"


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (0x0FFF, None),
        (0x1000, (0x1000, "multiply 1 of 2")),
        (0x101F, (0x1000, "multiply 1 of 2")),
        (0x1020, (0x1020, "multiply 2 of 2")),
        (0x1028, None),
        (0x2030, (0x2000, "copy 1 of 1")),
        (0xFFFF, None),
    ],
)
def test_functions_are_numbered_and_the_last_one_at_a_place_is_there(address: int, found: object) -> None:
    assert PerfMap(TEXT).at(address) == found


def test_the_file_is_read_once_and_nobody_elses_is(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    try:
        path.write_text(TEXT)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
            assert own_perf_map().at(0x1000) is None
        assert own_perf_map().at(0x1000) is not None
        assert not path.exists()
        assert own_perf_map().at(0x1000) is None
    finally:
        path.unlink(missing_ok=True)


def test_openvinos_two_products_are_told_apart() -> None:
    """Equal products take similar times; if both had one name or none, one would have no time."""
    pytest.importorskip("openvino")
    worker = LOCAL_HOST.start_worker(1, {**worker_environment(1), **NAMING_VARIABLES})
    try:
        module = "attnbench.implementations.peers.openvino_sdpa"
        worker.ask(Load(kind="module", target=module, implementation="openvino/sdpa", threads=1), 300.0, None)
        worker.ask(Prepare(case=make_case(seqlen_q=512, heads_q=8, head_dim=64), device="cpu"), 300.0, None)
        found = worker.ask(TakeProfile(threads=1, wall_ns=1_000_000_000), 300.0, None)
    finally:
        worker.close()
    if found.refused:
        pytest.skip(found.refused)
    assert found.by_phase[Phase.QK] > found.by_phase.get(Phase.PRODUCTS, 0)
    assert found.by_phase[Phase.PV] > found.by_phase.get(Phase.PRODUCTS, 0)
    assert {one.function for one in found.functions} >= {"jit_brgemm_kernel_t 1 of 2", "jit_brgemm_kernel_t 2 of 2"}
