"""Makes compiled models run uncompiled, so that their attention can be intercepted."""

from __future__ import annotations

import contextlib
import sys
from typing import Any


class Uncompiled:
    """Disables torch's compiler once the program has imported it, as importing it takes seconds."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._is_installed = False

    def install(self) -> None:
        """Disable the compiler now or when the program first compiles."""
        import torch

        original = torch.compile

        def compile_later(*args: Any, **kwargs: Any) -> Any:
            compiled = original(*args, **kwargs)
            self.stand_aside_if_imported()
            return compiled

        torch.compile = compile_later
        self._stack.callback(setattr, torch, "compile", original)
        self.stand_aside_if_imported()

    def stand_aside_if_imported(self) -> None:
        """Disable compiled code if the compiler has been imported by now."""
        if not self._is_installed and "torch._dynamo.eval_frame" in sys.modules:
            import torch

            self._is_installed = True
            self._stack.enter_context(torch.compiler.set_stance("force_eager"))

    def remove(self) -> None:
        """Enable compiled code again."""
        self._stack.close()
