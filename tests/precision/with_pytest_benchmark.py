"""Times the callables with pytest-benchmark."""

from __future__ import annotations

from typing import Any

import pytest

from tests.precision.precision_kernels import KERNELS, operands


@pytest.mark.parametrize("name", KERNELS)
def test_speed(benchmark: Any, name: str) -> None:
    benchmark(KERNELS[name], *operands(name))
