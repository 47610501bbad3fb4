"""Messages of exceptions from plug-ins, whose ``__str__`` may raise or return text that cannot be encoded."""

from __future__ import annotations


def message_of(error: BaseException) -> str:
    """Return an exception's message as encodable text, even if its ``__str__`` fails."""
    try:
        message = str(error)
    except Exception as another:  # noqa: BLE001 - it may raise anything
        return f"its message cannot be read: {type(another).__name__}"
    return message.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
