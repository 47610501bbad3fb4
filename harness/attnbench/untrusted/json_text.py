"""JSON from untrusted sources."""

from __future__ import annotations

import json
import re
from typing import NoReturn

_SUSPICIOUS = re.compile(r"[eE]\+?[0-9]{3}|[0-9]{200}|\\u[dD][89a-fA-F]")
"""Sign of a number beyond all floats or of a lone surrogate: few texts match, so few need the full check.

An exponent of two digits leaves at least 209 to the number.
"""


def parse_json(text: str) -> object:
    """Parse JSON in which every number is finite and every text can be encoded.

    Raises:
        ValueError: with a sentence, for any mistake.
    """
    value = decode_json(text)
    if _SUSPICIOUS.search(text):
        _look_closely(value)
    return value


def decode_json(text: str) -> object:
    """Parse JSON without checking its values: numbers may be infinite, and texts may hold lone surrogates."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except ValueError as error:
        raise ValueError(str(error).partition(";")[0]) from None  # drop the advice about Python


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
"""Shared, since creating a decoder takes as long as parsing a short text."""


def _look_closely(value: object) -> None:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a character (a lone surrogate)") from None
    except ValueError:
        raise ValueError("a number is beyond all floats") from None
