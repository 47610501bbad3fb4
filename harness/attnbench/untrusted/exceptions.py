"""Messages of a plug-in's exceptions. ``__str__`` is the plug-in's code: it may raise, or return unencodable text."""

from __future__ import annotations


def message_of(error: BaseException) -> str:
    """Return an exception's message as text that can be encoded, whatever its class makes of it."""
    try:
        message = str(error)
    except Exception as another:  # noqa: BLE001 - it may raise anything
        return f"its message cannot be read: {type(another).__name__}"
    return message.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
