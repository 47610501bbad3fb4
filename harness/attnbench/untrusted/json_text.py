"""JSON that somebody else wrote."""

from __future__ import annotations

import json
import re
from typing import NoReturn

_SUSPICIOUS = re.compile(r"[eE]\+?[0-9]{3}|[0-9]{300}|\\u[dD][89a-fA-F]")
"""A sign of a number beyond all floats, or of half a character. Few texts have one, so few pay for a closer look."""


def parse_json(text: str) -> object:
    """The value of a JSON text, in which every number is finite and every text can be encoded.

    Raises:
        ValueError: with a sentence, whatever is wrong with it.
    """
    value = decode_json(text)
    if _SUSPICIOUS.search(text):
        _look_closely(value)
    return value


def decode_json(text: str) -> object:
    """Like :func:`parse_json`, for callers who look at each value: numbers may be infinite, texts half a character."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except ValueError as error:
        raise ValueError(str(error).partition(";")[0]) from None  # the rest is advice about Python


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
"""One for all texts: to make it takes as long as to read a short one."""


def _look_closely(value: object) -> None:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a character (a lone surrogate)") from None
    except ValueError:
        raise ValueError("a number is beyond all floats") from None
