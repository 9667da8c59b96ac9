"""`mixtralkit serve` as a whole: real processes, real signals, real clients. tests/serve/ has the routes."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cli.demo_runs import DEMO
from tests.cli.served import Served, gone_within, serve_command, served
from tests.cli.shell import PROGRAM, run

LONG = {"max_tokens": 400, "temperature": 0}
ENDED_WITHIN = 2.0  # seconds from the death of a rank to the last word to every client
GONE_WITHIN = 10.0  # and until no process is left


@pytest.fixture(scope="module")
def alone() -> Iterator[Served]:
    """On one rank."""
    with served() as server:
        yield server


def test_the_text_is_that_of_generate(alone: Served) -> None:
    """And the model's name is the folder's."""
    told = alone.complete(max_tokens=12, temperature=0).json()
    done = run([*PROGRAM, "generate", "-m", str(DEMO), "--max-tokens", "12", "--report", "none", "ROMEO:"])
    assert told["choices"][0]["text"].strip() in done.stdout
    assert told["model"] == "shakespeare"


def test_only_this_machine_is_listened_to(alone: Served) -> None:
    """Unless --host says something else."""
    assert alone.url.startswith("http://127.0.0.1:")


def test_requests_are_logged_without_what_they_say(alone: Served) -> None:
    alone.complete(prompt="a secret\n\x1b[2J", max_tokens=2)
    assert any('"route": "/v1/completions"' in line and '"status": 200' in line for line in alone.errors)
    assert not any("secret" in line or "\x1b" in line for line in alone.errors)


def test_chat_with_url_talks_to_it(alone: Served) -> None:
    """The client remembers; the server is asked with the whole conversation."""
    words = ["--url", alone.url, "--max-tokens", "6"]
    done = run([*PROGRAM, "chat", *words], stdin="Who is there?\nAnd you?\n")
    assert done.returncode == 0, done.stderr
    messages = [{"role": "user", "content": "Who is there?"}]
    for line in ("And you?", ""):
        body = {"messages": messages, "max_tokens": 6, "temperature": 0}
        told = httpx.post(f"{alone.url}/v1/chat/completions", json=body, timeout=60).json()
        text = told["choices"][0]["message"]["content"]
        assert text in done.stdout
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": line}]


def test_megatrons_client_talks_to_it(alone: Served) -> None:
    address = alone.url.removeprefix("http://")
    tool = str(DEMO.parents[1] / "tools" / "text_generation_cli.py")
    done = run([PROGRAM[0], tool, address], stdin="ROMEO:\n5\nROMEO:\nmany\n")
    assert done.stdout.startswith("Megatron Response:\nROMEO:"), done.stderr
    assert "the number of tokens is 'many'" in done.stderr
    assert done.returncode == 1


def test_a_port_in_use_is_said_before_anything_is_loaded(alone: Served) -> None:
    port = alone.url.rpartition(":")[2]
    done = run([*PROGRAM, "serve", "-m", str(DEMO), "--port", port])
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert "loading" not in done.stderr


def test_keys_come_from_a_file_and_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\nfirst\n\nsecond\n")
    monkeypatch.setenv("MIXTRALKIT_API_KEYS", "third")
    with served("--api-key-file", str(keys)) as server:
        for key, status in [("first", 200), ("second", 200), ("third", 200), ("# ours", 401), ("none", 401)]:
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == status


@pytest.mark.parametrize("words", [(), ("--nproc", "2")])
def test_sigterm_lets_running_requests_end(words: tuple[str, ...]) -> None:
    """New ones are refused meanwhile; the exit status is 0, also that of the launcher."""
    with served(*words) as server:
        stream = server.stream(**LONG)
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        refused = _until_refused(server)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        assert list(stream)[-1]["choices"][0]["finish_reason"] == "length"
        assert server.end() == 0, server.errors


def _until_refused(server: Served) -> httpx.Response:
    """The answer to the first request that came after the signal."""
    while (answer := server.complete(max_tokens=1)).status_code == 200:
        pass
    return answer


def test_running_out_of_time_while_stopping_is_said() -> None:
    """The client is told, and the status is not 0."""
    with served("--shutdown-timeout", "0.2") as server:
        stream = server.stream(max_tokens=500)
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        assert "error" in list(stream)[-1] or list(stream) == []
        assert server.end() == 1
        assert any("--shutdown-timeout" in line for line in server.errors)


def test_a_second_signal_means_now() -> None:
    with served("--nproc", "2", "--shutdown-timeout", "100") as server:
        ranks = server.ranks()
        stream = server.stream(max_tokens=500)  # kept: a client that is gone would be nothing to wait for
        next(stream)
        server.process.send_signal(signal.SIGTERM)
        _until_refused(server)
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 128 + signal.SIGTERM
        assert gone_within(ranks, GONE_WITHIN)


@pytest.mark.parametrize("size", [2, 3])
def test_every_request_hears_of_a_rank_that_was_killed(size: int) -> None:
    """Streams and plain requests, within 2 s; then all processes end, and the message names the rank and the signal."""
    with served("--nproc", str(size)) as server:
        ranks = server.ranks()
        streams = [server.stream(max_tokens=500, seed=seed) for seed in range(size + 1)]
        for stream in streams:
            next(stream)
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(server.complete(max_tokens=500, ignore_eos=True)))
        asking.start()
        time.sleep(0.2)
        killed = time.monotonic()
        os.kill(ranks[-1], signal.SIGKILL)
        last = [list(stream)[-1] for stream in streams]
        asking.join()
        assert time.monotonic() - killed < ENDED_WITHIN
        assert all("error" in event for event in last)
        assert answers[0].status_code == 503
        assert gone_within([*ranks, server.process.pid], GONE_WITHIN - 2) or server.end() != 0
        assert server.end() not in (0, None)
        told = "".join(server.errors)
        assert f"rank {size - 1}" in told
        assert "SIGKILL" in told or "is gone" in told
        assert "may go on" not in told  # none can, though the launcher tells rank 0 to stop


def test_a_rank_that_stops_answering_is_named_and_requests_end_at_their_deadline() -> None:
    """The watchdog warns while the engine hangs; the request is answered when its own time is up."""
    with served("--nproc", "2", "--request-timeout", "4") as server:
        rank = server.ranks()[1]
        stream = server.stream(max_tokens=500)
        next(stream)
        os.kill(rank, signal.SIGSTOP)
        try:
            began = time.monotonic()
            last = list(stream)[-1]
            assert "error" in last
            assert time.monotonic() - began < 10
            assert any("rank 1" in line for line in server.errors)
        finally:
            os.kill(rank, signal.SIGCONT)


def test_an_address_of_another_machine_is_refused() -> None:
    done = run(serve_command("--host", "203.0.113.1"))
    assert done.returncode == 1
    assert "--host" in done.stderr
