"""Intercepts transformers' attention interface, which knows true key heads, windows, caps, sinks and biases.

Every function that a model gets from the interface is wrapped, including its own ``eager_attention_forward``. The
model's configuration is unchanged, so the model builds its usual masks.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from typing import TYPE_CHECKING, Any

import torch

from attnbench.interception.autocast import as_computed
from attnbench.interception.call import AttentionCall
from attnbench.interception.hooks.libraries import written_out
from attnbench.interception.kind import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor
    from torch.nn import Module

    from attnbench.interception.hooks.function_mode import Interceptor
    from attnbench.interception.kind import Kind

    Function = Callable[..., tuple[Tensor, Tensor | None]]

_MODULE = "transformers.modeling_utils"
_WITH_EFFECT = {"dropout", "scaling", "is_causal", "sliding_window", "softcap", "s_aux", "position_bias"}
_WITHOUT_EFFECT = {  # mask and lengths contain the same information
    "output_attentions", "use_cache", "position_ids", "cache_position", "training", "layer_idx",
    "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "implementation", "kernel_options",
}  # fmt: skip


class NotUnderstoodError(ValueError):
    """A call of an attention function cannot be described as an :class:`AttentionCall`; the message is one sentence."""


class TransformersInterface:
    """Wraps the functions that the attention interface returns, once transformers has been imported."""

    def __init__(self, interceptor: Interceptor) -> None:
        self._interceptor = interceptor
        self._interface: Any = None
        self._before: dict[str, Function | None] = {}
        """The methods that were in place before, to be restored: transformers' own, or an outer block's."""
        self._wrapped: dict[Any, Function] = {}

    def install_if_imported(self) -> None:
        """Install the wrappers if the program has imported transformers by now and they are not installed yet."""
        library = sys.modules.get(_MODULE)
        if self._interface is not None or not hasattr(library, "AttentionInterface"):
            return
        self._interface = interface = library.AttentionInterface  # type: ignore[union-attr]  # it has one
        get, item = interface.get_interface, interface.__getitem__

        def get_interface(own: Any, attn_implementation: str | None, default: Function) -> Function:
            return self._wrap(get(own, attn_implementation, default), attn_implementation or "eager")

        def getitem(own: Any, name: str) -> Function:
            return self._wrap(item(own, name), name)

        self._before = {name: vars(interface).get(name) for name in ("get_interface", "__getitem__")}
        interface.get_interface, interface.__getitem__ = get_interface, getitem

    def remove(self) -> None:
        """Remove the wrappers."""
        if self._interface is not None:
            for name, before in self._before.items():
                if before is None:  # it is inherited
                    delattr(self._interface, name)
                else:
                    setattr(self._interface, name, before)
            self._interface = None

    def _wrap(self, function: Function, name: str) -> Function:
        if function in self._wrapped.values():
            return function
        if function not in self._wrapped:

            @functools.wraps(function)
            def attention(
                module: Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, *more: Any, **kwargs: Any
            ) -> tuple[Tensor, Tensor | None]:
                if self._interceptor.is_answering:
                    return function(module, query, key, value, mask, *more, **kwargs)
                return self._answer(_Asked(name, function, module, query, key, value, mask, more, kwargs))

            self._wrapped[function] = attention
        return self._wrapped[function]

    def _answer(self, asked: _Asked) -> tuple[Tensor, Tensor | None]:
        with self._interceptor.mode_off():
            kind = None if self._interceptor.at_once is None else asked.kind()
            at_once = self._interceptor.answer_at_once(kind)
            if at_once is not None:
                return at_once.transpose(1, 2).contiguous(), None
        weights: list[Tensor | None] = []

        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out, probabilities = asked.run(q, k, v)
            weights[:] = [probabilities]
            return out.transpose(1, 2)

        try:
            with self._interceptor.own_time(), self._interceptor.mode_off():
                call = asked.call(run, self._interceptor.modules.name(asked.module), kind)
        except NotUnderstoodError as error:
            with self._interceptor.not_looking():
                result = asked.run(asked.q, asked.k, asked.v)
            self._interceptor.unmatched(f"{asked.name} attention of {type(asked.module).__name__}", str(error))
            return result
        out = self._interceptor.answer(call)
        return out.transpose(1, 2).contiguous(), weights[0] if weights else None


class _Asked:
    """The arguments of an attention function."""

    def __init__(
        self, name: str, function: Function, module: Module, q: Tensor, k: Tensor, v: Tensor, mask: Any,
        more: tuple[Any, ...], kwargs: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.name, self.function, self.module = name, function, module
        self.q, self.k, self.v, self.mask, self.more, self.kwargs = q, k, v, mask, more, kwargs

    def run(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.function(self.module, q, k, v, self.mask, *self.more, **self.kwargs)

    def kind(self) -> Kind | None:
        """Return the kind of the call, by all arguments that its answer depends on."""
        more = {name: value for name, value in self.kwargs.items() if name not in _WITHOUT_EFFECT}
        is_causal = getattr(self.module, "is_causal", True)
        return kind_of(
            self.q, self.k, self.v, self.name, self.function, is_causal, self.mask, *self.more, *more, *more.values()
        )

    def call(self, run: Callable[..., Tensor], layer: str | None, kind: Kind | None) -> AttentionCall:
        """Return the arguments as an :class:`AttentionCall`."""
        given = self._given()
        q, k, v, bias = self.q, self.k, self.v, given.get("position_bias")
        mask, causal = self._mask(), self._causal(given.get("is_causal"))
        if causal == "top_left" and k.shape[2] > q.shape[2]:  # a static cache that is not full
            k, v = k[:, :, : q.shape[2]], v[:, :, : q.shape[2]]
            bias = None if bias is None else bias[..., : q.shape[2]]
        if k.shape[1] != v.shape[1] or q.shape[1] % k.shape[1]:
            raise NotUnderstoodError(f"{q.shape[1]} heads of queries, {k.shape[1]} of keys, {v.shape[1]} of values")
        scaling = given.get("scaling")
        return AttentionCall(
            q=as_computed(q),
            k=as_computed(k),
            v=as_computed(v),
            scale=1 / math.sqrt(q.shape[-1]) if scaling is None else float(scaling),
            mask=mask,
            causal=causal,
            window=given.get("sliding_window") if self._is_flash else None,
            bias=bias,
            softcap=given.get("softcap"),
            sinks=given.get("s_aux"),
            dropout=float(given.get("dropout") or 0.0),
            layer=layer,
            api="transformers",
            kind=kind if k is self.k and v is self.v else None,
            given=(self.q, self.k, self.v),
            run=run,
        )

    @property
    def _is_flash(self) -> bool:
        return "flash" in self.name

    def _given(self) -> Mapping[str, Any]:
        """Return the arguments after the mask, by name.

        Raises:
            NotUnderstoodError: if the function takes an unknown argument.
        """
        parameters = inspect.signature(self.function).parameters
        given = dict(zip([*parameters][5:], self.more, strict=False)) | {**self.kwargs}
        strange = [
            name
            for name in given
            if name in parameters and name not in _WITH_EFFECT | _WITHOUT_EFFECT and given[name] is not None
        ]
        if strange:
            raise NotUnderstoodError(f"its attention function takes {', '.join(strange)}, unknown to attnbench")
        if self.name.startswith("paged"):
            raise NotUnderstoodError("its keys lie in pages, which the attention function looks up itself")
        return given

    def _causal(self, is_causal: bool | None) -> Any:
        """Return the causal alignment that the function itself applies; eager functions use the mask alone."""
        if self.name == "eager" or not (getattr(self.module, "is_causal", True) if is_causal is None else is_causal):
            return None
        if self._is_flash:
            return "bottom_right"
        return "top_left" if self.mask is None and self.q.shape[2] > 1 else None

    def _mask(self) -> Tensor | None:
        """Return the mask with four axes, cut to the number of keys."""
        mask = self.mask
        if mask is None:
            return None
        if type(mask).__name__ == "BlockMask":
            return written_out(mask)
        if not isinstance(mask, torch.Tensor) or mask.dim() not in (2, 4):
            raise NotUnderstoodError(f"its mask is a {type(mask).__name__} that is neither a matrix nor has four axes")
        if mask.dim() == 2:  # FlashAttention's form: True for real tokens
            return mask[:, None, None, -self.k.shape[2] :].bool()
        return mask[..., : self.k.shape[2]]
