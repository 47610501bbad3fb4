"""Files of torch.save, converted once to ``.safetensors`` by a separate process; everything else reads the copy.

``torch.load(weights_only=True)`` runs none of the code that a pickle may hold, and this process never imports torch.
The copy is cached under the digest of the original file. The module is also the program that makes it:
``python -P -m attnbench.sweep.files.torch_file captured.pt captured.safetensors``.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.cases.tensors.source import digest_of
from attnbench.machine.caches import own_cache
from attnbench.untrusted.printable import in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

SUFFIXES = (".pt", ".pth")
_SECONDS = 300
_TYPES = ("float64", "float32", "float16", "bfloat16", "bool", "uint8")


def converted(path: Path) -> Path:
    """Return the path of a ``.safetensors`` copy of a file, which is made if missing.

    Raises:
        OSError, ValueError: if the file cannot be read, or the copy cannot be written; with a sentence.
    """
    target = own_cache() / "tensors" / f"{digest_of(path)}.safetensors"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "attnbench.sweep.files.torch_file", str(path), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"torch did not read it within {_SECONDS} s") from None
    if done.returncode:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it ended without a word")
        raise ValueError(f"torch cannot read it: {in_one_line(last)[:300]}")
    return target


def _main(source: Path, target: Path) -> None:
    """Write the copy atomically."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = dict(_tensors(torch.load(source, map_location="cpu", weights_only=True)))
    apart = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
        try:
            save_file(apart, file.name)
            Path(file.name).replace(target)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        finally:
            Path(file.name).unlink(missing_ok=True)


def _tensors(value: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested dictionaries, with their keys joined by dots; other values are skipped."""
    import torch

    if isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, torch.Tensor) and str(value.dtype).removeprefix("torch.") in _TYPES and not value.is_sparse:
        yield name or "tensor", value


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        sys.exit(f"{type(error).__name__}: {str(error).partition('. ')[0]}")
