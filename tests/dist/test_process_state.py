"""/proc's answers about processes whose state we make."""

import os
import signal
import subprocess
import time

import pytest

from mixtralkit.dist.exit_watch import ExitWatch
from mixtralkit.dist.process_state import children_of, how_it_ended, is_stopped, start_time


def test_a_live_process_has_not_ended_and_a_stopped_one_is_known() -> None:
    assert how_it_ended(os.getpid(), start_time(os.getpid())) is None
    child = subprocess.Popen(["sleep", "60"])
    started = start_time(child.pid)
    assert not is_stopped(child.pid, started)
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert is_stopped(child.pid, started)
    child.kill()
    child.wait()


def test_children_are_those_of_this_process_and_not_theirs() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        children = children_of(os.getpid())
        os.kill(grandchild, signal.SIGKILL)
    assert child.pid in children
    assert grandchild not in children
    assert child.pid not in children_of(os.getpid())


@pytest.mark.parametrize(
    ("script", "words"), [("kill -9 $$", "was killed by SIGKILL"), ("exit 3", "ended with exit status 3")]
)
def test_how_a_process_ended_is_told_until_its_parent_has_asked(script: str, words: str) -> None:
    child = subprocess.Popen(["sh", "-c", script])
    started = start_time(child.pid)
    while how_it_ended(child.pid, started) is None:
        time.sleep(0.01)
    assert how_it_ended(child.pid, started) == words
    child.wait()
    assert how_it_ended(child.pid, started) == "is gone (killed, or out of memory)"


def test_a_reused_process_number_is_not_mistaken() -> None:
    assert how_it_ended(os.getpid(), start_time(os.getpid()) - 1) is not None


def test_a_process_may_call_itself_anything() -> None:
    """The name is in the same line as the state, and any bytes will do."""
    child = subprocess.Popen(["sh", "-c", r"printf '\377) Z' > /proc/$$/comm; echo; exec cat"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert how_it_ended(child.pid, start_time(child.pid)) is None
    child.kill()
    child.communicate()


def test_the_end_of_a_watched_process_wakes_up_once() -> None:
    child = subprocess.Popen(["sleep", "60"])
    watch = ExitWatch([child.pid, 2**22 + 1])  # the second is above any process number
    watch.wait(0.01)
    child.kill()
    before = time.monotonic()
    watch.wait(30)
    assert time.monotonic() - before < 20
    child.wait()
    watch.wait(0.01)
