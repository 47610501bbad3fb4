"""The source of a tensor's values: a seed, ``random:7``, or a file, ``/data/mask.npz#sha256:0123456789abcdef``.

Behind a seed may stand the axes along which what is drawn is broadcast, ``random:7:batch+heads``.

The digest is that of the file's bytes. A plan adds it, so that a case is known by what its file holds and not by where
it lies, and whoever reads the file later notices that it is another.
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
    """A file no longer holds what was planned with. One sentence."""


@dataclasses.dataclass(frozen=True)
class StoredTensors:
    """A file, and what it is known to hold."""

    path: Path
    digest: str | None
    """Sixteen hexadecimal digits of the SHA-256 of its bytes, where that is known."""

    @property
    def text(self) -> str:
        """The way it is written in a case."""
        return f"{self.path}#sha256:{self.digest}" if self.digest else str(self.path)

    def checked(self) -> Path:
        """The path of the file, which holds what it is known to hold.

        Raises:
            ChangedError: where it holds something else.
            OSError, ValueError: where it cannot be read.
        """
        if self.digest is not None and digest_of(self.path) != self.digest:
            raise ChangedError("it holds other bytes than when the run was planned")
        return self.path


def stored(text: str) -> StoredTensors:
    """The file that a text names."""
    known = _DIGEST.search(text)
    return StoredTensors(Path(text[: known.start()] if known else text), known and known[1])


def seed_of(text: str) -> int | None:
    """The seed of ``random:SEED[:AXES]``, or ``None`` where the text names a file."""
    return int(text.removeprefix(RANDOM).partition(":")[0]) if text.startswith(RANDOM) else None


def drawn_shape(text: str, whole: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what is drawn: 1 along the axes that ``random:SEED:AXES`` names."""
    broadcast = text.removeprefix(RANDOM).partition(":")[2].split("+")
    return tuple(1 if axis in broadcast else size for axis, size in zip(AXES, whole, strict=True))


def mistake_in(text: object) -> str | None:
    """Why this names neither a seed nor a file, as the end of a sentence, or ``None``."""
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
    """The text of a file whose content is known, less its path; any other as it is."""
    known = _DIGEST.search(text)
    return known[0] if known else text


def without_digest(text: str) -> str:
    """The text as somebody typed it."""
    return _DIGEST.sub("", text)


def short(text: str) -> str:
    """For people: the seed, or the name of the file and, where that does not begin so, a part of its digest."""
    if text.startswith(RANDOM):
        return text
    named = stored(text)
    part = (named.digest or "")[:_SHOWN]
    return named.path.name if named.path.name.startswith(part) else f"{named.path.name}#{part}"


def digest_of(path: Path) -> str:
    """The digest of a file's bytes; remembered while its size and its time of change stay.

    Raises:
        OSError, ValueError: where it cannot be read, or is no regular file.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is no regular file")  # several processes read it, each from its beginning
    return _digest(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)


@functools.lru_cache(maxsize=256)
def _digest(path: Path, size: int, *_about: int) -> str:
    """Read no more than ``size`` bytes: there are files without an end."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (part := file.read(min(size, 2**20))):
            digest.update(part)
            size -= len(part)
    return digest.hexdigest()[:_DIGITS]
