"""The probe process: imports one plug-in and writes its declarations as a line of JSON to a separate pipe."""

from __future__ import annotations

import json
import os
import sys
from typing import cast

from attnbench.registry.discover import describe, implementations_of
from attnbench.registry.found import Origin, to_json
from attnbench.registry.implementation import DeclarationError
from attnbench.registry.importing import load_module
from attnbench.registry.sources import files_read
from attnbench.untrusted.exceptions import message_of


def main() -> None:
    """Run ``python -m attnbench.registry.probe FD KIND TARGET``."""
    fd, kind, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.set_inheritable(fd, False)  # a child of the plug-in must not hold the pipe open
    origin = Origin(cast("object", kind), target)  # type: ignore[arg-type]  # written by discover
    answer: dict[str, object]
    try:
        with files_read() as read:
            module = load_module(origin)
        defined = implementations_of(module)
        answer = {
            "found": [to_json(one) for one in describe(origin, module, read)],
            "refused": sum(1 for one in defined if one.refused),
            "lasts": origin.kind == "file" and not any(one.available_hook for one in defined),
        }
    except DeclarationError as error:
        answer = {"declaration_error": str(error)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a plug-in raises, SystemExit included, is its answer
        answer = {"raised": f"{type(error).__name__}: {message_of(error)}"}
    with os.fdopen(fd, "w") as pipe:
        pipe.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
