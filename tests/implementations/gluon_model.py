"""A model of a multiprocessor that runs the source of ``gluon/flash`` on a CPU, with warps in random order.

Gluon has no interpreter. Instead, the kernel's own files are imported with stand-ins for Gluon's functions: tiles are
torch tensors, partitions are threads of which one runs at a time, and asynchronous operations finish as late as
allowed. A tile that has not arrived holds NaN; products read their factors when they begin and again when they are
waited for; a deadlock is reported.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parents[2] / "implementations" / "gluon_flash"


class FaultError(AssertionError):
    """A deadlock, or a race."""


class Machine:
    """Threads of which one runs at a time, chosen at random at each step that is visible to others."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ready = threading.Condition()
        self.living: list[int] = [0]
        self.running = 0
        self.me = threading.local()
        self.fruitless = 0
        self.fault: BaseException | None = None
        self.pending: list[Callable[[], None]] = []
        self.program = self.programs = 0

    def step(self) -> None:
        """Let another thread or the copy engine continue."""
        if self.pending and self.random.random() < 0.3:
            self.pending.pop(self.random.randrange(len(self.pending)))()
        with self.ready:
            self.running = self.random.choice(self.living)
            self.ready.notify_all()
            self._await_turn()

    def _await_turn(self) -> None:
        me = getattr(self.me, "number", 0)
        self.ready.wait_for(lambda: self.running == me or self.fault is not None)
        if self.fault is not None:
            raise FaultError from self.fault

    def until(self, done: Callable[[], bool]) -> None:
        """Wait until a condition is true.

        Raises:
            FaultError: if no thread can continue.
        """
        self.step()
        while not done():
            self.fruitless += 1
            if self.fruitless > 2000:
                raise FaultError("all wait for each other")
            self.step()
        self.fruitless = 0

    def specialise(self, partitions: list[tuple[Callable[..., None], tuple[Any, ...]]], *_: Any) -> None:
        """Run functions concurrently."""

        def run(number: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
            self.me.number = number
            try:
                with self.ready:
                    self._await_turn()
                function(*arguments)
            except BaseException as error:  # noqa: BLE001 - the first is raised below
                self.fault = self.fault or error
            with self.ready:
                self.living.remove(number)
                self.running = self.random.choice(self.living or [0])
                self.ready.notify_all()

        threads = [
            threading.Thread(target=run, args=(n, *one), daemon=True) for n, one in enumerate(partitions, start=1)
        ]
        self.living = list(range(1, len(partitions) + 1))
        self.running = 1
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.living, self.running = [0], 0
        if self.fault is not None:
            raise self.fault


class Barrier:
    """A barrier, whose phase ends when enough threads and all bytes have arrived."""

    def init(self, count: int) -> None:
        self.count = self.left = count
        self.bytes = self.phase = 0

    def arrive(self, count: int) -> None:
        self.left -= count
        self.check()

    def check(self) -> None:
        if self.left < 0:
            raise FaultError("more arrived at a barrier than it has in a phase")
        if self.left == 0 and self.bytes == 0:
            self.phase, self.left = self.phase + 1, self.count


class Memory:
    """One or several tiles in shared memory."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.shape, self.dtype = list(tensor.shape), tensor.dtype

    def index(self, at: int) -> Memory:
        return Memory(self.tensor[at])

    def reshape(self, shape: list[int]) -> Memory:
        return Memory(self.tensor.view(shape))

    def permute(self, order: tuple[int, ...]) -> Memory:
        return Memory(self.tensor.permute(order))

    def store(self, value: Any) -> None:
        self.tensor.copy_(value)


class Barriers(list[Barrier]):
    """Barriers in shared memory."""

    def index(self, at: int) -> Barrier:  # type: ignore[override]
        return self[at]

    @property
    def shape(self) -> list[int]:
        return [len(self), 1]


class Descriptor:
    """A TMA descriptor of tiles of (1, rows, dim)."""

    def __init__(self, tensor: Any, rows: int) -> None:
        self.tensor = tensor.view(-1, *tensor.shape[2:])
        self.dtype, self.layout = tensor.dtype, None
        shape = [1, rows, tensor.shape[3]]
        self.block_type = types.SimpleNamespace(shape=shape, nbytes=rows * tensor.shape[3] * tensor.element_size())

    def tile(self, coordinates: list[int]) -> Any:
        """Return the part of a tile that is inside the tensor."""
        head, start, _ = coordinates
        return self.tensor[head : head + 1, start : start + self.block_type.shape[1]]


class Coming:
    """An asynchronous product."""

    def __init__(self, a: Any, b: Memory, total: Any, use_acc: bool) -> None:
        self.a, self.b, self.total, self.use_acc = a, b, total, use_acc
        self.begun_with = self.product()

    def product(self) -> Any:
        a = self.a.tensor if isinstance(self.a, Memory) else self.a
        product = a.float() @ self.b.tensor.float()
        return self.total + product if self.use_acc else product

    def done(self) -> Any:
        found = self.product()
        if not torch.equal(found, self.begun_with):
            raise FaultError("a factor was overwritten, or had not come")
        return found


class Pointer:
    """A pointer into a tensor."""

    def __init__(self, tensor: Any, at: Any = 0) -> None:
        self.tensor, self.at = tensor, at

    def __add__(self, more: Any) -> Pointer:
        return Pointer(self.tensor, self.at + more)


def stand_ins(machine: Machine) -> dict[str, types.ModuleType]:  # noqa: PLR0915 - one after another
    """Return stand-ins for the parts of Gluon that the kernel uses."""
    stores: dict[int, list[Callable[[], None]]] = {}

    def either(of_tensors: Callable[..., Any], of_numbers: Callable[..., Any]) -> Callable[..., Any]:
        def chosen(a: Any, b: Any) -> Any:
            if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
                return of_tensors(torch.as_tensor(a), torch.as_tensor(b))
            return of_numbers(a, b)

        return chosen

    def allocate(dtype: Any, shape: list[int], layout: Any) -> Any:
        if layout == "barriers":
            return Barriers(Barrier() for _ in range(shape[0]))
        return Memory(torch.full(shape, torch.nan, dtype=dtype))

    def expect(barrier: Barrier, size: int, pred: bool = True) -> None:
        if pred:
            barrier.bytes += size
            barrier.arrive(1)

    def load(desc: Descriptor, coordinates: list[int], barrier: Barrier, result: Memory, pred: bool = True) -> None:
        if not pred:
            return
        result.tensor.fill_(torch.nan)

        def arrives() -> None:
            found = desc.tile(coordinates)
            result.tensor.zero_()
            result.tensor[:, : found.shape[1]] = found
            barrier.bytes -= desc.block_type.nbytes
            barrier.check()

        machine.pending.append(arrives)
        machine.step()

    def store(desc: Descriptor, coordinates: list[int], source: Memory) -> None:
        begun_with = source.tensor.clone()

        def leaves() -> None:
            if not torch.equal(source.tensor, begun_with):
                raise FaultError("output was overwritten before it had left")
            target = desc.tile(coordinates)
            target.copy_(source.tensor[:, : target.shape[1]])

        stores.setdefault(machine.me.__dict__.get("number", 0), []).append(leaves)
        machine.step()

    def store_wait(_pending: int) -> None:
        machine.step()
        for leaves in stores.pop(machine.me.__dict__.get("number", 0), []):
            leaves()

    def write(pointer: Pointer, value: Any, mask: Any) -> None:
        pointer.tensor.view(-1)[pointer.at[mask]] = value[mask]

    def mma_wait(_outstanding: int, deps: list[Any]) -> Any:
        machine.step()
        found = [one.done() if isinstance(one, Coming) else one for one in deps]
        return found[0] if len(found) == 1 else tuple(found)

    def arrive(barrier: Barrier, count: int = 1) -> None:
        barrier.arrive(count)
        machine.step()

    def wait(barrier: Barrier, phase: int, pred: bool = True) -> None:
        if pred:
            machine.until(lambda: (barrier.phase & 1) != phase)

    def jit(function: Any = None, **_: Any) -> Any:
        return function or (lambda given: given)

    language = types.ModuleType("language")
    names: dict[str, Any] = {
        "constexpr": lambda value: value, "float32": torch.float32, "int64": torch.int64,
        "thread_barrier": machine.step, "static_range": range, "cdiv": lambda a, b: -(-a // b),
        "program_id": lambda _axis: machine.program, "num_programs": lambda _axis: machine.programs,
        "minimum": either(torch.minimum, min), "maximum": either(torch.maximum, max),
        "max": lambda x, axis: x.amax(axis), "sum": lambda x, axis: x.sum(axis), "exp2": torch.exp2, "log2": torch.log2,
        "where": torch.where, "fma": lambda x, y, z: x * y + z, "cast": lambda x, _dtype: x,
        "arange": lambda start, end, _layout: torch.arange(start, end), "store": write,
        "full": lambda shape, value, dtype, _layout: torch.full(shape, value, dtype=dtype),
        "convert_layout": lambda x, _layout, assert_trivial=False: x, "allocate_shared_memory": allocate,
        "warp_specialize": machine.specialise,
        **{name: lambda *_: None for name in ("SliceLayout", "NVMMADistributedLayout", "DotOperandLayout")},
    }  # fmt: skip
    vars(language).update(names)
    gluon = types.ModuleType("gluon")
    vars(gluon).update(jit=jit, language=language)
    hopper = types.ModuleType("hopper")
    vars(hopper).update(
        fence_async_shared=lambda: None,
        mbarrier=types.SimpleNamespace(
            MBarrierLayout=lambda: "barriers", init=lambda one, count: one.init(count), expect=expect, arrive=arrive,
            wait=wait,
        ),
        tma=types.SimpleNamespace(async_load=load, async_store=store, store_wait=store_wait),
        warpgroup_mma=lambda a, b, c, use_acc=True, is_async=False: Coming(a, b, c, use_acc),
        warpgroup_mma_wait=mma_wait,
    )  # fmt: skip
    experimental = types.ModuleType("experimental")
    vars(experimental).update(gluon=gluon)
    root = "triton.experimental"
    return {
        "triton": types.ModuleType("triton"), root: experimental, f"{root}.gluon": gluon,
        f"{root}.gluon.language": language, f"{root}.gluon.language.nvidia": types.ModuleType("nvidia"),
        f"{root}.gluon.language.nvidia.hopper": hopper,
    }  # fmt: skip


def kernel_for(machine: Machine) -> Any:
    """Import the kernel's own source with stand-ins for its imports."""
    package = types.ModuleType("gluon_flash_modelled")
    package.__path__ = [str(FOLDER)]
    replaced = {**stand_ins(machine), package.__name__: package}
    kept = {name: sys.modules.get(name) for name in replaced}
    sys.modules.update(replaced)
    try:
        for name in ("tiles", "forward"):
            spec = importlib.util.spec_from_file_location(f"{package.__name__}.{name}", FOLDER / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        return module.forward
    finally:
        for name, before in kept.items():
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before
        for name in ("tiles", "forward"):
            sys.modules.pop(f"{package.__name__}.{name}", None)


def attend(
    q: Any, k: Any, v: Any, *, seed: int, rows: int, block_n: int, parts: int, stages: int, programs: int | None,
    causal: bool, offset: int, scale: float, overlap: bool, turns: bool, apart: bool, specialised: bool,
) -> tuple[Any, Any]:  # fmt: skip
    """Return output and LSE as the kernel computes them on the model."""
    out, lse = torch.full_like(q, torch.nan), torch.full(q.shape[:3], torch.nan)
    pairs = q.shape[0] * q.shape[1]
    jobs = -(-q.shape[2] // (rows * parts)) * pairs
    for program in range(programs or jobs):
        machine = Machine(seed + program)
        machine.program, machine.programs = program, programs or jobs
        kernel_for(machine)(
            Descriptor(q, rows), Descriptor(k, block_n), Descriptor(v, block_n), Descriptor(out, rows), Pointer(lse),
            pairs, q.shape[1] // k.shape[1], q.shape[2], k.shape[2], offset, scale, jobs,
            PARTS=parts, STAGES=stages, CAUSAL=causal, ACROSS=causal and programs is not None, OVERLAP=overlap,
            TURNS=turns, APART=apart, SPECIALISED=specialised, REGISTERS=0, PRODUCER_REGISTERS=0,
        )  # fmt: skip
    return out, lse
