"""The JavaScript that makes charts interactive: Vega, Vega-Lite and Vega-Embed, bundled by vl-convert."""

from __future__ import annotations

import contextlib
import importlib.metadata

from attnbench.machine.caches import own_cache
from attnbench.machine.kept import keep_text


def vega_bundle() -> str:
    """Return the JavaScript bundle, kept in the user's cache because bundling takes more than a second.

    A cache that cannot be read or written is not used.
    """
    kept = own_cache() / f"vega-{importlib.metadata.version('vl-convert-python')}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    made: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
    keep_text(kept, made)
    return made
