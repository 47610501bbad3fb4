"""The answer of a probe is read whenever it arrives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from attnbench.registry.discover import from_file
from attnbench.registry.probing import ask_probe


class EndsMeanwhile(subprocess.Popen[bytes]):
    """A process that writes and ends after its pipe is checked and before it is asked whether it has ended."""

    def poll(self) -> int:
        return self.wait()


def test_the_line_of_a_probe_that_ends_right_after_it_is_read() -> None:
    read_fd, write_fd = os.pipe()
    program = f"import os, time; time.sleep(0.5); os.write({write_fd}, b'{{}}\\n')"
    with EndsMeanwhile([sys.executable, "-c", program], pass_fds=[write_fd]) as process:
        os.close(write_fd)
        line = ask_probe._first_line(read_fd, process, time.monotonic() + 600, lambda: None)
    os.close(read_fd)
    assert line == b"{}\n"


def test_an_error_without_a_message_is_still_an_answer(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text("class Odd(Exception):\n    def __str__(self):\n        raise self\nraise Odd\n")
    (found,) = from_file(str(tmp_path / "odd.py"))
    assert "importing it raised Odd: " in str(found.unavailable)
