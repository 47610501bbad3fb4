"""Whatever a child process does instead of answering has a status and a sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import psutil
import pytest

from attnbench.machine.hardware.pinning import worker_environment
from attnbench.stages.call import FreshCall
from attnbench.stages.prepare import Close, Load
from attnbench.transport.child import Child
from attnbench.transport.executor import ExecutorError
from attnbench.transport.host import LOCAL_HOST

LINE = '{"kind": "%s", "body": %s, "frames": {}}'
ANSWERS = {
    "garbage": ("done", "crashed", "it wrote into the protocol's pipe: b'done'"),
    "another answer": (LINE % ("Done", "{}"), "crashed", "it sent 'Done' where CalledAfresh or Failure is due"),
    "not as declared": (LINE % ("CalledAfresh", '{"fresh_call_ns": "soon"}'), "crashed", "fresh_call_ns: Input should"),
    "another status": (LINE % ("Failure", '{"status": "ok", "reason": "r"}'), "crashed", "its Failure cannot be read"),
    "a failure": (LINE % ("Failure", '{"status": "wrong", "reason": "r"}'), "wrong", "r"),
}


def child(program: str, made: type[Child] = Child) -> Child:
    command = [sys.executable, "-c", f"import os, sys, time\nread, write = map(int, sys.argv[1:])\n{program}"]
    return made([*(part.replace("{", "{{").replace("}", "}}") for part in command), "{read}", "{write}"], {})


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_believed_only_as_far_as_it_is_declared(name: str) -> None:
    line, status, words = ANSWERS[name]
    asked = child(f"os.read(read, 999)\nos.write(write, {line + chr(10)!r}.encode())\ntime.sleep(600)")
    with pytest.raises(ExecutorError) as caught:
        asked.ask(FreshCall(), 600)
    assert caught.value.status == status
    assert words in caught.value.reason
    assert caught.value.is_gone == (status == "crashed"), "whoever lies is killed"
    asked.close()


class EndsMeanwhile(Child):
    """A child that answers and ends after its pipe is checked and before it is asked whether it has ended."""

    def has_ended(self) -> bool:
        self._process.wait()
        return True


def test_the_answer_of_what_ends_right_after_it_is_read() -> None:
    line = LINE % ("Failure", '{"status": "wrong", "reason": "r"}')
    asked = child(f"time.sleep(0.5)\nos.write(write, {line + chr(10)!r}.encode())", EndsMeanwhile)
    with pytest.raises(ExecutorError, match=r"^r$"):
        asked.ask(FreshCall(), 600)
    asked.close()


def test_what_hangs_is_killed_at_its_deadline() -> None:
    asked = child("time.sleep(600)")
    with pytest.raises(ExecutorError, match=r"it took more than 0.01 s and was killed") as caught:
        asked.ask(FreshCall(), 0.01)
    assert (caught.value.status, caught.value.is_gone, asked.has_ended()) == ("timeout", True, True)
    asked.close()


def test_what_grows_too_large_is_killed() -> None:
    asked = child("time.sleep(600)")
    with pytest.raises(ExecutorError, match="it grew beyond the limit of") as caught:
        asked.ask(FreshCall(), 600, memory_bytes=1)
    assert (caught.value.status, asked.has_ended()) == ("out_of_memory", True)
    asked.close()


def test_what_ends_tells_its_last_words() -> None:
    asked = child("sys.stderr.write('no more'); sys.exit(3)")
    with pytest.raises(ExecutorError, match="it ended with exit code 3; its last words: no more"):
        asked.ask(FreshCall(), 600)
    asked.close()


@pytest.fixture
def worker() -> Iterator[object]:
    worker = LOCAL_HOST.start_worker(1, worker_environment(1))
    yield worker
    worker.close()


def test_a_worker_refuses_what_it_cannot_do_and_lives_on(worker: Child) -> None:
    with pytest.raises(ExecutorError, match="RuntimeError: no cell was begun") as caught:
        worker.ask(FreshCall(), 600)
    assert (caught.value.status, caught.value.is_gone) == ("error", False)
    with pytest.raises(ExecutorError, match="ModuleNotFoundError") as caught:
        worker.ask(Load(kind="module", target="no.such", implementation="a/b", threads=1), 600)
    assert caught.value.status == "unavailable"
    worker.ask(Close(), 600)


DAEMON = """
pid_read, pid_write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(pid_write, str(os.getpid()).encode())
        time.sleep(600)
    os._exit(0)
os.wait()
os.read(read, 999)
os.write(write, ('{"kind": "Failure", "body": {"status": "wrong", "reason": "%s"}, "frames": {}}' % os.read(pid_read, 99).decode()).encode() + bytes([10]))
time.sleep(600)
"""  # fmt: skip  # noqa: E501


def test_what_forks_twice_into_a_session_of_its_own_ends_with_its_worker() -> None:
    asked = child(DAEMON)
    with pytest.raises(ExecutorError) as caught:
        asked.ask(FreshCall(), 600)
    daemon = int(caught.value.reason)
    assert psutil.Process(daemon).ppid() != os.getpid()
    asked.close()
    assert not psutil.pid_exists(daemon) or psutil.Process(daemon).status() == psutil.STATUS_ZOMBIE
