"""tools/text_generation_cli.py: what it says and how it ends. tests/cli/test_serve.py has it talk to our server."""

import io
import signal
from collections.abc import Iterator

import pytest

from mixtralkit.cli.text_generation import main
from tests.bench.load.odd_server import KEY, OddServer, odd_server
from tests.cli.shell import PROGRAM, ROOT, read_until, start

TOOL = str(ROOT / "tools" / "text_generation_cli.py")


@pytest.fixture
def server() -> Iterator[OddServer]:
    with odd_server() as running:
        yield running


def ask(monkeypatch: pytest.MonkeyPatch, server: OddServer, typed: str) -> int:
    """The exit status after `typed`."""
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    return main([server.url])


def test_a_prompt_that_was_not_answered_shows_in_the_status(
    server: OddServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIXTRALKIT_API_KEY", KEY)
    assert ask(monkeypatch, server, "to be\n5\n") == 0
    assert ask(monkeypatch, server, "to be\nfive\nor not\n5\n") == 1
    out, err = capsys.readouterr()
    assert out == "Megatron Response:\nto be word\nMegatron Response:\nor not word\n"
    assert "the number of tokens is 'five'; a whole number is needed" in err


def test_where_the_key_goes_is_said(
    server: OddServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("", "wrong"):
        monkeypatch.setenv("MIXTRALKIT_API_KEY", key)
        assert ask(monkeypatch, server, "to be\n5\n") == 1
        assert "answered 401: who are you?; set MIXTRALKIT_API_KEY to a key of the server's" in capsys.readouterr().err


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with odd_server() as gone:
        pass
    assert ask(monkeypatch, gone, "to be\n5\n") == 1
    assert f"cannot ask {gone.url}/api: " in capsys.readouterr().err


def test_ctrl_c_ends_it_without_a_traceback(server: OddServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXTRALKIT_API_KEY", KEY)
    process = start([PROGRAM[0], TOOL, server.url])
    assert process.stdin is not None
    try:
        process.stdin.write("to be\n5\n")
        process.stdin.flush()
        read_until(process, "to be word")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
