"""A conversation: its history, its end, and Ctrl-C, which ends a response and not the program."""

import io
import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from mixtralkit.chat_template import Message, encode_chat
from mixtralkit.cli.main import main
from mixtralkit.tokenizer import Tokenizer
from tests.cli.conftest import CONFIG
from tests.cli.shell import PATIENCE, PROGRAM, environment, start
from tests.random_model import random_model
from tests.reference import mixtral
from tests.reference.cases import shape_of

ENDLESS = ["--max-tokens", "15000"]  # half a minute of text and more


def answer(folder: Path, messages: list[Message], max_tokens: int) -> str:
    """The oracle's answer, in float64."""
    tokenizer = Tokenizer(folder / "tokenizer.model")
    weights = {name: tensor.double() for name, tensor in random_model(CONFIG, seed=3).state_dict().items()}
    prompt = encode_chat(messages, tokenizer)
    tokens = list(prompt)
    for _ in range(max_tokens):
        tokens.append(int(mixtral.logits(weights, shape_of(CONFIG), tokens)[-1].argmax()))
    return tokenizer.decode(tokens[len(prompt) :])


def test_a_conversation_remembers_until_it_is_reset(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("to sleep\n\nto die\n/reset\nto sleep\n/exit\nnot read\n"))
    assert main(["chat", "-m", str(checkpoint), "--max-tokens", "4", "--system", "be brief"]) == 0
    system, first = Message("system", "be brief"), Message("user", "to sleep")
    reply = answer(checkpoint, [system, first], 4)
    more = answer(checkpoint, [system, first, Message("assistant", reply), Message("user", "to die")], 4)
    assert capsys.readouterr().out == f"{reply}\n{more}\n{reply}\n"


def test_a_mistyped_command_is_not_taken_for_a_message(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("/rest\n"))
    assert main(["chat", "-m", str(checkpoint)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "there is no command /rest; /reset begins anew" in err


def test_a_message_that_does_not_fit_leaves_the_conversation_as_it_was(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{'x' * 60_000}\nto sleep\n"))
    assert main(["chat", "-m", str(checkpoint), "--max-tokens", "4"]) == 0
    out, err = capsys.readouterr()
    assert out == answer(checkpoint, [Message("user", "to sleep")], 4) + "\n"
    assert "but the model's context is 20000" in err


def test_sigint_ends_a_response(checkpoint: Path) -> None:
    process = start([*PROGRAM, "chat", "-m", str(checkpoint), *ENDLESS])
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("to sleep\n")
        process.stdin.flush()
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate("/exit\n", timeout=PATIENCE)
    finally:
        process.kill()
    assert (process.returncode, "Traceback" in err) == (0, False)
    assert len(out) < 15_000


def test_ctrl_c_on_a_terminal_ends_a_response_of_two_ranks(checkpoint: Path) -> None:
    """The launcher would end all ranks if it got a SIGINT: the terminal must not send one."""
    command = [*PROGRAM, "chat", "--nproc", "2", "-m", str(checkpoint), *ENDLESS]
    child, ours = pty.fork()
    if child == 0:
        os.execve(sys.executable, command, environment(TERM="dumb"))
    try:
        _read_until(ours, b"> ")
        os.write(ours, b"to sleep\n")
        _read_until(ours, b"to sleep\r\n")
        _read_until(ours, b"", at_least=20)
        os.write(ours, b"\x03")
        _read_until(ours, b"> ")
        os.write(ours, b"/exit\n")
        assert os.waitstatus_to_exitcode(_wait(child, ours)) == 0
    finally:
        os.close(ours)


def _read_until(terminal: int, mark: bytes, at_least: int = 0) -> None:
    seen = b""
    deadline = time.monotonic() + PATIENCE
    while mark not in seen or len(seen) < at_least:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"waited for {mark!r}, saw {seen!r}"
        seen += os.read(terminal, 1024)


def _wait(child: int, terminal: int) -> int:
    """The child's wait status; its last words are read, or it could not end."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                os.read(terminal, 1024)
            except OSError:  # the other side is closed
                time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the chat did not end")
