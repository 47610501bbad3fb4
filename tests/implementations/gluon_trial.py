"""Tries each variant of ``gluon/flash`` on a GPU in two minutes: ``python .../gluon_trial.py FOLDER``.

Needs only torch and Triton. All variants are compiled at once, each in its own process; then one after another is
checked against float32 and timed against cuDNN. A process whose kernel hangs is killed after ``--patience`` seconds.
"""

from __future__ import annotations

import argparse
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve()
IMPLEMENTATIONS = HERE.parents[2] / "implementations"
VARIANTS: dict[str, dict[str, Any]] = {  # the most promising first, then those that help to locate a fault
    "overlap": {},
    "turns": {"turns": True},
    "one-job": {"persistent": False},
    "in-turn": {"overlap": False, "persistent": False},
    "triton": {},
    "overlap-3": {"stages": 3},
    "turns-3": {"turns": True, "stages": 3},
    "m192": {"block_n": 64, "stages": 3, "consumers": 3},
    "one-group": {"specialised": False},
    "n64": {"block_n": 64, "stages": 4},
    "m192-turns": {"block_n": 64, "stages": 3, "consumers": 3, "turns": True},
    "plain": {"specialised": False, "overlap": False},
    "overlap-4": {"stages": 4},
    "m192-n128": {"consumers": 3},
    "m192-n128-turns": {"consumers": 3, "turns": True},
}
NARROW = ("overlap-4", "m192-n128", "m192-n128-turns")
"""Variants whose tiles or registers suffice for head_dim 64 only."""
TIMED = ((128, False), (128, True), (64, False), (64, True))
"""head_dim, causal: 8k tokens, 32 query heads on 8 heads of K and V, bfloat16."""
CHECKED = (  # batch, heads_q, heads_kv, seqlen_q, seqlen_kv, head_dim, causal, offset
    (1, 2, 2, 128, 128, 128, False, 0),
    (1, 4, 2, 384, 384, 128, False, 0),
    (1, 4, 2, 384, 384, 128, True, 0),
    (2, 4, 1, 1000, 1000, 128, True, 0),
    (1, 4, 4, 1000, 1000, 64, False, 0),
    (1, 4, 2, 2048, 2048, 64, True, 0),
    (1, 2, 1, 77, 1000, 128, True, 923),
    (1, 2, 1, 1000, 300, 128, True, -700),
    (1, 2, 1, 1000, 300, 64, True, 0),
    (1, 2, 1, 1, 1, 128, False, 0),
    (2, 16, 4, 2048, 2048, 128, False, 0),
)
READY = "ready"


def modules(package: str) -> None:
    """Make a folder of kernels importable without the harness that its ``__init__`` needs."""
    made = types.ModuleType(package)
    made.__path__ = [str(IMPLEMENTATIONS / package)]
    sys.modules[package] = made


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


Call = Callable[..., None]
"""``(q, k, v, out, lse, causal, offset, compile_only)``."""


def gluon_call(name: str) -> Call:
    modules("gluon_flash")
    from gluon_flash.launch import Variant, launch  # type: ignore[import-not-found]

    variant = Variant(**VARIANTS[name])

    def call(q: Any, k: Any, v: Any, out: Any, lse: Any, causal: bool, offset: int, compile_only: bool = False) -> None:
        scale = 1 / math.sqrt(q.shape[-1])
        launch(variant, q, k, v, out, lse, causal=causal, offset=offset, scale=scale, compile_only=compile_only)

    return call


def triton_call(_name: str) -> Call:
    """Return a call of ``triton/flash`` with the fastest known tile sizes."""
    modules("triton_flash")
    from triton.tools.tensor_descriptor import TensorDescriptor
    from triton_flash.forward import forward  # type: ignore[import-not-found]
    from triton_flash.tiles import Scoring, Sizes, Strides  # type: ignore[import-not-found]

    def call(q: Any, k: Any, v: Any, out: Any, lse: Any, causal: bool, offset: int, compile_only: bool = False) -> None:
        batch, heads, seqlen_q, dim = q.shape
        block_n = 64 if dim == 128 else 128

        def source(x: Any, rows: int) -> Any:
            return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, 1, rows, dim])

        nothing = lse.new_zeros(1)
        size = Sizes(heads, heads // k.shape[1], seqlen_q, k.shape[2], dim, dim, offset)
        forward.run(
            source(q, 64), source(k, block_n), source(v, block_n), out, lse, nothing.int(), nothing.int(), nothing,
            Strides(*q.stride()), Strides(*k.stride()), Strides(*v.stride()), size,
            Scoring(1 / math.sqrt(dim), 1.0, nothing),
            BLOCK_M=64, BLOCK_N=block_n, BLOCK_D=dim, BLOCK_DV=dim, RULE=int(causal), MOD=0, SINK=False,
            EVEN_KEYS=k.shape[2] % block_n == 0, EVEN_DIM=True, EVEN_DIM_V=True, SHIFT=0, TMA=True,
            V_TRANSPOSED=False, PRECISION="ieee", DROP=0, num_warps=4, num_stages=3,
            grid=(-(-seqlen_q // 64), batch * heads), warmup=compile_only,
        )  # fmt: skip

    return call


def inputs(shape: tuple[int, ...], dtype: Any, device: str) -> tuple[Any, ...]:
    import torch

    batch, heads_q, heads_kv, seqlen_q, seqlen_kv, dim = shape
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(batch, heads, seqlen, dim, device=device).to(dtype)
        for heads, seqlen in ((heads_q, seqlen_q), (heads_kv, seqlen_kv), (heads_kv, seqlen_kv))
    )
    return q, k, v, torch.full_like(q, math.nan), torch.full(q.shape[:3], math.nan, device=device)


def definition(q: Any, k: Any, v: Any, causal: bool, offset: int) -> tuple[Any, Any]:
    """Return output and LSE in float32; a row without keys has 0 and -inf."""
    import torch

    group = q.shape[1] // k.shape[1]
    k, v = (x.float().repeat_interleave(group, 1) for x in (k, v))
    scores = q.float() @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        rows, keys = (torch.arange(n, device=q.device) for n in scores.shape[-2:])
        scores = scores.masked_fill(keys > rows[:, None] + offset, -math.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ v, scores.logsumexp(-1)


def check(call: Call, shape: tuple[Any, ...], dtype: Any) -> str:
    """Return errors relative to those of rounding the inputs, and whether three calls give equal bits."""
    import torch

    *sizes, causal, offset = shape
    q, k, v, out, lse = inputs(tuple(sizes), dtype, "cuda")
    outputs = []
    for _ in range(3):
        out.fill_(math.nan)
        lse.fill_(math.nan)
        call(q, k, v, out, lse, causal, offset)
        outputs.append(out.clone())
    torch.cuda.synchronize()
    expected, expected_lse = definition(q, k, v, causal, offset)
    error = (out.float() - expected).abs().max().item()
    usual = (expected.to(dtype).float() - expected).abs().max().item()
    lse_error = torch.where(lse == expected_lse, 0.0, lse - expected_lse).abs().max().item()
    same = all(bool((one == out).all()) for one in outputs)
    good = error <= 4 * usual + 1e-6 and lse_error <= 1e-4 and same
    verdict = "ok" if good else "WRONG"
    bits = "" if same else ", calls differ"
    return (
        f"{verdict} {shape} {dtype}: {error:.1e} ({error / max(usual, 1e-9):.1f} roundings), lse {lse_error:.0e}{bits}"
    )


def peer_error(shape: tuple[Any, ...]) -> str:
    """Return the error of torch's own attention on the last checked case."""
    import torch

    *sizes, causal, offset = shape
    q, k, v, _, _ = inputs(tuple(sizes), torch.bfloat16, "cuda")
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    return f"torch's own on {shape}: {(out.float() - definition(q, k, v, causal, offset)[0]).abs().max().item():.1e}"


def timing(call: Call, dim: int, causal: bool) -> str:
    """Return TFLOP/s and cuDNN's, measured in the same process at the same time."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from triton.testing import do_bench

    q, k, v, out, lse = inputs((1, 32, 8, 8192, 8192, dim), torch.bfloat16, "cuda")
    flop = 4 * 32 * 8192**2 * dim * (0.5 if causal else 1.0)

    def cudnn() -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

    def measured(run: Callable[[], Any]) -> float:
        return float(do_bench(run, warmup=10, rep=40, return_mode="median"))

    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        peers = [measured(cudnn)]
        own = measured(lambda: call(q, k, v, out, lse, causal, 0))
        peers.append(measured(cudnn))
    peer = sum(peers) / 2
    mask = "causal" if causal else "full"
    return (
        f"d{dim} {mask}: {own:.3f} ms {flop / own / 1e9:.0f} TFLOP/s, cuDNN {peer:.3f} ms {flop / peer / 1e9:.0f}, "
        f"ratio {peer / own:.3f}"
    )


def work(name: str) -> None:
    """Run one variant: compile it, wait for the signal, check it, and time it."""
    import torch

    # Resolved before CUDA is initialised: time runs for all processes until the signal comes.
    call = (triton_call if name == "triton" else gluon_call)(name)
    begun = time.monotonic()
    dims = (64,) if name in NARROW else (64, 128)
    for dim, causal in TIMED:
        if dim in dims:
            call(*inputs((1, 32, 8, 8192, 8192, dim), torch.bfloat16, "meta"), causal, 0, True)
    call(*inputs((1, 2, 2, 128, 128, dims[-1]), torch.float16, "meta"), True, 0, True)
    torch.zeros(1, device="cuda")
    say(f"compiled in {time.monotonic() - begun:.0f} s")
    say(READY)
    sys.stdin.readline()
    if name != "triton":
        checks = [(shape, torch.bfloat16) for shape in CHECKED if shape[5] in dims]
        checks.append((next(shape for shape, _ in reversed(checks)), torch.float16))
        good = 0
        for shape, dtype in checks:
            verdict = check(call, shape, dtype)
            good += verdict.startswith("ok")
            say(verdict)
        say(f"{good} of {len(checks)} checks agree; {peer_error(CHECKED[-1])}")
    for dim, causal in TIMED:
        if dim in dims:
            say(timing(call, dim, causal))


class Worker:
    """A variant's process and its output lines."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.lines: queue.Queue[str | None] = queue.Queue()
        environment = {**os.environ, "TRITON_DEFAULT_FP_FUSION": "1", "TRITON_CACHE_DIR": str(folder / "cache" / name)}
        with (folder / f"{name}.err").open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE), str(folder), "--variant", name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
                start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self, until: float) -> str | None:
        """Return the next line; ``None`` at the end of the output.

        Raises:
            queue.Empty: if the time is over first.
        """
        return self.lines.get(timeout=max(until - time.monotonic(), 0.001))

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Kill the process and all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)


def follow(worker: Worker, note: Callable[[str], None], until: float, patience: float) -> str:
    """Pass on a worker's lines until it ends, and return how it ended."""
    line: str | None = ""
    last = ""
    try:
        while (line := worker.line(until)) != READY:
            if line is None:
                return "ended before it was ready"
            note(f"{worker.name}: {line}")
        worker.go()
        until = min(until, time.monotonic() + patience)
        while (line := worker.line(until)) is not None:
            note(f"{worker.name}: {line}")
            last = line
    except queue.Empty:
        return f"killed when its time was over; the last that it said: {last}"
    return f"exit code {worker.process.wait(5)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0, help="for all of it")
    parser.add_argument("--patience", type=float, default=20.0, help="for checking and timing one variant")
    parser.add_argument("--only", default=",".join(VARIANTS), help="variants, separated by commas")
    parser.add_argument("--variant", help="run this one here")
    given = parser.parse_args()
    if given.variant:
        work(given.variant)
        return
    begun = time.monotonic()
    given.folder.mkdir(parents=True, exist_ok=True)
    workers = [Worker(name, given.folder) for name in given.only.split(",")]
    with (given.folder / "trial.txt").open("a") as record:

        def note(line: str) -> None:
            if not line.startswith(f"{worker.name}: ok "):  # of those the file tells
                say(line)
            record.write(line + "\n")
            record.flush()

        try:
            for worker in workers:
                left = given.seconds - (time.monotonic() - begun)
                how = follow(worker, note, begun + given.seconds, given.patience) if left > 3 else "no time left"
                worker.kill()
                note(f"{worker.name}: {how}, {time.monotonic() - begun:.0f} s in all")
                errors = (given.folder / f"{worker.name}.err").read_text().strip()
                if how != "exit code 0" and errors:
                    note("\n".join(f"    {line[:200]}" for line in errors.splitlines()[-4:]))
        finally:
            for worker in workers:
                worker.kill()


if __name__ == "__main__":
    main()
