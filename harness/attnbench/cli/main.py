"""The command ``attnbench``: its verbs and exit codes.

0 ok · 1 regression or disagreement · 2 usage or configuration · 3 internal error · 4 cells crashed, timed out, ran out
of memory, raised, or gave invalid times · 5 nothing measured, or cells missing · 6 inconclusive or not comparable · 128
and a signal's number interrupted: 130 by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from cyclopts import App, CycloptsError

from attnbench.cli.streams import drop_stdout, secure_streams
from attnbench.errors import AttnbenchError
from attnbench.runner.interrupts import exit_code_of, raise_signals
from attnbench.untrusted.printable import printable
from attnbench.version import VERSION

EXIT_USAGE = 2
EXIT_INTERNAL = 3

app = App(
    name="attnbench",
    help="Benchmark and profile implementations of attention: checked against a float64 oracle, timed and weighed.",
    version=VERSION,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
# Import paths: a verb's module is imported when the verb is used.
app.command("attnbench.cli.commands.run:run")
app.command("attnbench.cli.commands.run:check")
app.command("attnbench.cli.commands.run:merge")
app.command("attnbench.cli.commands.listing:app", name="list")
app.command("attnbench.cli.commands.show:show")
app.command("attnbench.cli.commands.compare:compare")
app.command("attnbench.cli.commands.gating.gate:gate")
app.command("attnbench.cli.commands.gating.calibrate:calibrate")
app.command("attnbench.cli.commands.gating.baseline:app", name="baseline")
app.command("attnbench.cli.commands.gating.history:app", name="history")
app.command("attnbench.cli.commands.report:report")
app.command("attnbench.cli.commands.inspect:inspect")
app.command("attnbench.cli.commands.profile:profile")
app.command("attnbench.cli.commands.capture:capture")
app.command("attnbench.cli.commands.replay:replay")
app.command("attnbench.cli.commands.use:use")
app.command("attnbench.cli.commands.predict:predict")
app.command("attnbench.cli.commands.doctor:doctor")
app.command("attnbench.cli.commands.schema:schema")
app.command("attnbench.cli.commands.schema:completion")


def main(tokens: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    secure_streams()
    raise_signals()
    sys.exit(exit_code(tokens))


def exit_code(tokens: list[str] | None = None) -> int:
    """Run the command line and return its exit code; a user's mistake is one message and exit code 2."""
    asked = sys.argv[1:] if tokens is None else tokens
    if not asked or asked[0] in app.help_flags:
        load_verbs()
    if not _is_folder_there():
        sys.stderr.write("attnbench: the current folder was removed: change to another one\n")
        return EXIT_USAGE
    try:
        result = app(asked, exit_on_error=False)
        sys.stdout.flush()  # errors in writing are raised here
    except CycloptsError:
        return EXIT_USAGE  # cyclopts has printed what is wrong
    except KeyboardInterrupt as interrupt:
        return exit_code_of(interrupt)
    except BrokenPipeError:
        drop_stdout()  # the reader of the output has closed it
        return 0
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return 0  # rich, which prints help and tables, ends the process if the reader has closed the output
    except AttnbenchError as error:
        sys.stderr.write(f"attnbench: {printable(str(error))}\n")
        return error.exit_code
    except Exception:  # noqa: BLE001 - the last frame: it must return a meaningful exit code
        traceback.print_exc()
        sys.stderr.write("attnbench: internal error; the lines above belong into a bug report\n")
        return EXIT_INTERNAL
    return result if isinstance(result, int) else 0


def command_reference() -> str:
    """Return every command with its options in Markdown, with the texts of ``--help``."""
    load_verbs()
    return app.generate_docs(output_format="markdown", recursive=True)


def _is_folder_there() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def load_verbs() -> None:
    """Import all verbs, whose first sentences ``--help`` lists (20 ms; none of it is heavy)."""
    for name in list(app):
        app[name]
