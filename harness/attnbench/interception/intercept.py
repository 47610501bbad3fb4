"""Installs the hooks that intercept a model's attention, and removes them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from attnbench.interception.handler import ignore
from attnbench.interception.open_blocks import install_imported, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attnbench.interception.handler import Handler, Unmatched
    from attnbench.interception.hooks.function_mode import Interceptor
    from attnbench.interception.kind import AtOnce


@contextlib.contextmanager
def intercept(
    handler: Handler,
    unmatched: Unmatched = ignore,
    around_model: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    at_once: AtOnce | None = None,
) -> Iterator[Interceptor]:
    """Let a handler answer the block's attention calls: in this thread, in threads that it starts, and in modules.

    Intercepted are transformers' attention interface, ``scaled_dot_product_attention``, FlexAttention and products
    around a softmax, also within ``nn.MultiheadAttention`` and ``nn.TransformerEncoder``; calls of other libraries'
    functions are reported as unmatched. Within the block compiled models run uncompiled, and torch's fused inference
    path of encoder layers is off: both would hide their attention.

    Args:
        handler: answers each call; :meth:`AttentionCall.original` returns what the model would have got. Attention
            within the handler is not intercepted.
        unmatched: called for attention that cannot be described as an :class:`AttentionCall`.
        around_model: returns a context for each call of an outermost module, and for each backward pass.
        at_once: called before the handler, which never sees the calls that it answers.

    Yields:
        The interceptor, which counts the functions that it has inspected.

    Raises:
        UsageError: if another thread has an open block.
    """
    import torch

    from attnbench.interception.hooks.autograd import backward_passes
    from attnbench.interception.hooks.compiling import Uncompiled
    from attnbench.interception.hooks.function_mode import Interceptor
    from attnbench.interception.hooks.libraries import Libraries
    from attnbench.interception.hooks.modules import Modules
    from attnbench.interception.hooks.threads import started_threads
    from attnbench.interception.hooks.transformers import TransformersInterface

    modules = Modules()
    interceptor = Interceptor(handler, unmatched, modules, at_once)
    transformers = TransformersInterface(interceptor)
    uncompiled = Uncompiled()
    libraries = Libraries(interceptor)

    def install() -> None:
        transformers.install_if_imported()
        uncompiled.stand_aside_if_imported()
        libraries.install_if_imported()

    @contextlib.contextmanager
    def around_outermost() -> Iterator[None]:
        install_imported()
        with interceptor.in_this_thread(), around_model():
            yield

    with contextlib.ExitStack() as stack:
        stack.enter_context(opened(install))
        stack.callback(transformers.remove)
        stack.callback(libraries.remove)
        stack.callback(uncompiled.remove)
        install_imported()
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        uncompiled.install()
        stack.enter_context(modules.watched(around_outermost))
        stack.enter_context(backward_passes(around_model))
        stack.enter_context(started_threads(interceptor.in_this_thread))
        stack.callback(interceptor.close)
        stack.enter_context(interceptor.in_this_thread())
        yield interceptor
