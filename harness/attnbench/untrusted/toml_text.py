"""TOML from untrusted sources."""

from __future__ import annotations

import tomllib
from typing import Any


def parse_toml(data: bytes) -> dict[str, Any]:
    """Parse a TOML file with any line endings, with or without a byte order mark.

    Raises:
        ValueError: with a sentence, for any mistake.
    """
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise
    except ValueError:  # int()'s message on more than 4300 digits addresses programmers
        raise ValueError("it holds an integer of thousands of digits") from None
