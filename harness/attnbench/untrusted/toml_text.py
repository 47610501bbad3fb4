"""TOML that somebody else wrote."""

from __future__ import annotations

import tomllib
from typing import Any


def parse_toml(data: bytes) -> dict[str, Any]:
    """The tables of a TOML file, whatever its lines end in and whether a byte order mark begins it.

    Raises:
        ValueError: with a sentence, whatever is wrong with it.
    """
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise
    except ValueError:  # what int() says of more than 4300 digits is no advice to users
        raise ValueError("it holds an integer of thousands of digits") from None
