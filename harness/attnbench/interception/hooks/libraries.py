"""Intercepts calls of FlexAttention and of other libraries' attention functions, which no torch mode sees.

Programs import such functions by name, or compile them, before they could be replaced. So the function's code object is
replaced while calls are intercepted.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from typing import TYPE_CHECKING, Any

from attnbench.interception.autocast import as_computed
from attnbench.interception.call import AttentionCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from attnbench.interception.hooks.function_mode import Interceptor

_FLEX = "torch.nn.attention.flex_attention", "flex_attention"
_FUNCTIONS = (
    _FLEX,
    ("torch.nn.attention.varlen", "varlen_attn"),
    ("xformers.ops.fmha", "memory_efficient_attention"),
    *(
        ("flash_attn.flash_attn_interface", f"flash_attn_{name}")
        for name in ("func", "qkvpacked_func", "kvpacked_func", "varlen_func", "varlen_qkvpacked_func", "with_kvcache")
    ),
    *(("flash_attn_interface", name) for name in ("flash_attn_func", "flash_attn_varlen_func")),
    ("sageattention.core", "sageattn"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Exchanged:
    function: types.FunctionType
    original: Callable[..., Any]
    """A copy of the function with its own code."""
    parts: tuple[types.CodeType, Any, Any]
    """The function's own code and defaults."""
    answer: Callable[[Sequence[Any], Mapping[str, Any]], Any]


_EXCHANGED: dict[str, _Exchanged] = {}
"""By the functions' names; global, as the replaced code can only reach its answer through a name."""


def answer(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Answer a call; the replaced code calls this."""
    return _EXCHANGED[name].answer(args, kwargs)


class Libraries:
    """Replaces the code of attention functions once the program has imported them."""

    def __init__(self, interceptor: Interceptor) -> None:
        self._interceptor = interceptor
        self._own: list[str] = []

    def install_if_imported(self) -> None:
        """Replace the code of functions that have been imported by now."""
        for module, name in _FUNCTIONS:
            if module not in sys.modules:
                continue
            function = getattr(sys.modules[module], name, None)
            key = f"{module}.{name}"
            if isinstance(function, types.FunctionType) and not function.__closure__ and key not in _EXCHANGED:
                self._exchange(key, function)

    def _exchange(self, key: str, function: types.FunctionType) -> None:
        original = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
        original.__kwdefaults__ = function.__kwdefaults__
        parts = function.__code__, function.__defaults__, function.__kwdefaults__

        def told(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            if self._interceptor.is_answering:
                return original(*args, **kwargs)
            if key == ".".join(_FLEX):
                return self._flex(original, args, kwargs)
            return self._unmatched(key, f"calls of {key} are not followed", original, args, kwargs)

        source = f"def code(*args, **kwargs):\n from {__name__} import answer\n return answer({key!r}, args, kwargs)"
        made: dict[str, types.FunctionType] = {}
        exec(source, made)  # noqa: S102 - made of the names above
        _EXCHANGED[key] = _Exchanged(function, original, parts, told)
        self._own.append(key)
        function.__code__, function.__defaults__, function.__kwdefaults__ = made["code"].__code__, None, None

    def remove(self) -> None:
        """Restore the functions' own code."""
        for key in self._own:
            exchanged = _EXCHANGED.pop(key)
            function = exchanged.function
            function.__code__, function.__defaults__, function.__kwdefaults__ = exchanged.parts
        self._own = []

    def _unmatched(
        self, key: str, reason: str, original: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        with self._interceptor.not_looking():
            out = original(*args, **kwargs)
        self._interceptor.unmatched(key, reason)
        return out

    def _flex(self, original: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        names = ("query", "key", "value", "score_mod", "block_mask", "scale", "enable_gqa", "return_lse")
        given = dict(zip(names, args, strict=False)) | {**kwargs}
        for name in ("score_mod", "return_lse", "return_aux"):
            if given.get(name):
                return self._unmatched(".".join(_FLEX), f"it has {name}", original, args, kwargs)
        query, key, value = (given.pop(name) for name in names[:3])
        block_mask, scale = given.get("block_mask"), given.get("scale")

        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out: Tensor = original(q, k, v, **given)
            return out

        with self._interceptor.own_time():
            call = AttentionCall(
                q=as_computed(query),
                k=as_computed(key),
                v=as_computed(value),
                scale=1 / math.sqrt(query.shape[-1]) if scale is None else scale,
                mask=None if block_mask is None else written_out(block_mask),
                layer=self._interceptor.modules.name(),
                api="flex_attention",
                given=(query, key, value),
                run=run,
            )
        return self._interceptor.answer(call)


def written_out(block_mask: Any) -> Tensor:
    """Return FlexAttention's block mask as a boolean tensor with the mask's own batch and heads, which may be 1."""
    from torch.nn.attention.flex_attention import create_mask

    batch, heads, queries, keys = block_mask.shape
    device = str(block_mask.kv_num_blocks.device)
    return create_mask(block_mask.mask_mod, batch, heads, queries, keys, device=device)
