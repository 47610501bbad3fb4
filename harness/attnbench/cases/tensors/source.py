"""The source of a tensor's values: a seed, ``random:7``, or a file, ``/data/mask.npz#sha256:0123456789abcdef``.

A seed may be followed by the axes along which the tensor is broadcast, ``random:7:batch+heads``.

The digest is that of the file's bytes. A plan adds it, so that a case is identified by the content of its file and not
by its path, and a later reader notices if the file has changed.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import stat
from pathlib import Path

RANDOM = "random:"
FILE_INPUTS = "file:"
"""Before the path of a file where a field may have other texts: ``inputs = "file:captured.npz"``."""
AXES = ("batch", "heads", "queries", "keys")
_DIGITS = 16
_SHOWN = 6
_DIGEST = re.compile(rf"#sha256:([0-9a-f]{{{_DIGITS}}})$")
_LARGEST_SEED = 2**63 - 1


class ChangedError(ValueError):
    """A file has changed since the run was planned. The message is one sentence."""


@dataclasses.dataclass(frozen=True)
class StoredTensors:
    """A file and its expected digest."""

    path: Path
    digest: str | None
    """Sixteen hexadecimal digits of the SHA-256 of its bytes, if known."""

    @property
    def text(self) -> str:
        """The file as written in a case."""
        return f"{self.path}#sha256:{self.digest}" if self.digest else str(self.path)

    def checked(self) -> Path:
        """Verify the digest, if known, and return the path of the file.

        Raises:
            ChangedError: if the file has another digest.
            OSError, ValueError: if it cannot be read.
        """
        if self.digest is not None and digest_of(self.path) != self.digest:
            raise ChangedError("it holds other bytes than when the run was planned")
        return self.path


def stored(text: str) -> StoredTensors:
    """Parse the text of a file, ``PATH[#sha256:DIGEST]``."""
    known = _DIGEST.search(text)
    return StoredTensors(Path(text[: known.start()] if known else text), known and known[1])


def seed_of(text: str) -> int | None:
    """Return the seed of ``random:SEED[:AXES]``, or ``None`` if the text names a file."""
    return int(text.removeprefix(RANDOM).partition(":")[0]) if text.startswith(RANDOM) else None


def drawn_shape(text: str, whole: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the drawn tensor: 1 along the axes that ``random:SEED:AXES`` names."""
    broadcast = text.removeprefix(RANDOM).partition(":")[2].split("+")
    return tuple(1 if axis in broadcast else size for axis, size in zip(AXES, whole, strict=True))


def mistake_in(text: object) -> str | None:
    """Return why this names neither a seed nor a file, as the end of a sentence, or ``None``."""
    if not isinstance(text, str) or not text or "\0" in text:
        return "is not the path of a file, nor random:SEED"
    if not text.startswith(RANDOM):
        return None
    digits, colon, axes = text.removeprefix(RANDOM).partition(":")
    if colon and not ({*axes.split("+")} <= {*AXES} and len({*axes.split("+")}) == axes.count("+") + 1):
        return f"is not random:SEED:AXES with some of {', '.join(AXES)}, joined by +, along which it is broadcast"
    if digits.isascii() and digits.isdecimal() and len(digits) < 20 and int(digits) <= _LARGEST_SEED:
        return None
    return "is not random:SEED with an integer >= 0"


def without_path(text: str) -> str:
    """Return only the digest of a file whose digest is known; other texts unchanged."""
    known = _DIGEST.search(text)
    return known[0] if known else text


def without_digest(text: str) -> str:
    """Return the text without its digest, as the user typed it."""
    return _DIGEST.sub("", text)


def short(text: str) -> str:
    """Return a text for display: the seed, or the file's name and part of the digest, unless the name begins so."""
    if text.startswith(RANDOM):
        return text
    named = stored(text)
    part = (named.digest or "")[:_SHOWN]
    return named.path.name if named.path.name.startswith(part) else f"{named.path.name}#{part}"


def digest_of(path: Path) -> str:
    """Return the digest of a file's bytes; cached while its size and times of change stay the same.

    Raises:
        OSError, ValueError: if it cannot be read, or is not a regular file.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no regular file")  # several processes read it, each from its beginning
    return _digest(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, *_about: int) -> str:
    """Compute the digest of at most ``size`` bytes, as some files have no end."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (part := file.read(min(size, 2**20))):
            digest.update(part)
            size -= len(part)
    return digest.hexdigest()[:_DIGITS]
