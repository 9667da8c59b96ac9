"""`mixtralkit bench serve` as it is typed, against a small server of the tests."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.cli import bench_outputs
from mixtralkit.cli.bench_serve_table import load_table
from mixtralkit.cli.main import main
from tests.bench.load.odd_server import KEY, OddServer, odd_server
from tests.cli.shell import PROGRAM, run, start


@pytest.fixture
def server() -> Iterator[OddServer]:
    with odd_server() as running:
        yield running


def bench(capsys: pytest.CaptureFixture[str], server: OddServer, *words: str) -> Any:
    """The JSON document of a run in this process."""
    assert main(["bench", "serve", "--url", server.url, *words, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_fixed_concurrency(server: OddServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--requests", "6", "--concurrency", "2", "--input-tokens", "5", "--output-tokens", "3", "--warm-up", "2")
    document = bench(capsys, server, *words, "--vocab-size", "50", "--shared-prefix", "4")
    assert document["server"]["model"] == "plain"  # the first of those that it lists
    figures = document["figures"]
    assert (figures["answered"], figures["failed"], figures["not_sent"]) == (6, {}, 0)
    assert (figures["prompt_tokens"], figures["output_tokens"]) == (6 * 9, 6 * 3)
    for name in ("ttft", "tpot", "itl", "latency"):
        assert 0 <= figures[name]["median"] <= figures[name]["p99"]
    assert len(server.sent()) == 8
    prompts = [asked["prompt"] for asked in server.sent()]
    assert {len(prompt) for prompt in prompts} == {9}
    assert all(3 <= token < 50 for prompt in prompts for token in prompt)
    assert len({tuple(prompt[:4]) for prompt in prompts[2:]}) == 1
    each = document["requests"]
    assert [(request["answered"], len(request["gaps"])) for request in each] == [(True, 2)] * 6
    assert figures["ttft"]["mean"] == pytest.approx(sum(request["first"] for request in each) / 6)


def test_arrivals_at_a_rate_in_a_chat(server: OddServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--requests", "5", "--rate", "500", "--endpoint", "chat", "--output-tokens", "2-4", "--model", "other")
    document = bench(capsys, server, *words)
    assert document["load"]["prompts"] == "words"
    assert (document["load"]["rate"], document["load"]["concurrency"]) == (500.0, None)
    assert {asked["model"] for asked in server.sent()} == {"other"}
    assert {request["output_tokens"] for request in document["requests"]} <= {2, 3, 4}
    assert document["figures"]["prompt_tokens"] == 5 * 64  # the small server counts words


@pytest.mark.parametrize("field", ["prompt", "content"])
def test_ids_come_from_the_servers_tokenizer(server: OddServer, capsys: pytest.CaptureFixture[str], field: str) -> None:
    """By the field of this server and vLLM's, or that of llama.cpp's; neither is sent the other's, and warns of it."""
    server.tokens, server.tokenizes = [30, 7, 30, 9], field
    document = bench(capsys, server, "--requests", "3", "--output-tokens", "1")
    assert document["load"]["prompts"] == "token ids"
    assert {token for asked in server.sent() for token in asked["prompt"]} == {7, 9, 30}
    assert document["figures"]["tpot"] is None  # there is no second token
    ways = [set(asked) & {"prompt", "content"} for path, asked, *_ in server.asked if path == "/tokenize"]
    assert ways == [{"prompt"}, {"content"}][: 1 + (field == "content")]


def test_words_where_there_is_no_tokenizer(server: OddServer, capsys: pytest.CaptureFixture[str]) -> None:
    document = bench(capsys, server, "--requests", "3", "--input-tokens", "7")
    assert document["load"]["prompts"] == "words"
    assert all(len(asked["prompt"].split()) == 7 for asked in server.sent())


def test_failures_are_counted_and_the_first_are_told(server: OddServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "serve", "--url", server.url, "--model", "busy", "--requests", "9", "--warm-up", "0"]
    assert main(words) == 1  # nothing was answered
    shown = capsys.readouterr().out
    assert "0 answered, 9 failed" in shown
    assert "failed: 9 x 429; the first:" in shown
    assert shown.count("429: come back later") == 5
    assert "milliseconds" not in shown


def test_a_failure_while_warming_up_is_an_error(server: OddServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "serve", "--url", server.url, "--model", "busy"]) == 1
    assert f"{server.url} failed while it was warmed up: 429: come back later" in capsys.readouterr().err


def test_answers_that_are_too_short_or_not_counted_make_the_figures_doubtful(
    server: OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, doubt in (
        ("short", "32 answers had fewer tokens than"),
        ("uncounted", "did not count the tokens of 32"),
    ):
        assert main(["bench", "serve", "--url", server.url, "--model", model]) == 0
        assert doubt in capsys.readouterr().out


def test_keys_come_from_a_variable_or_a_file(
    server: OddServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked = ("--model", "locked", "--requests", "2")
    monkeypatch.setenv("MIXTRALKIT_API_KEY", KEY)
    assert bench(capsys, server, *locked)["figures"]["answered"] == 2
    monkeypatch.setenv("MIXTRALKIT_API_KEY", "wrong")
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n# and so on\n")
    assert bench(capsys, server, *locked, "--api-key-file", str(file))["figures"]["answered"] == 2
    file.write_text(f"# as the server reads it\n\n  {KEY}\nanother\n")
    assert bench(capsys, server, *locked, "--api-key-file", str(file))["figures"]["answered"] == 2
    file.write_text("\n")
    assert main(["bench", "serve", "--url", server.url, *locked, "--api-key-file", str(file)]) == 2
    assert "is no API key" in capsys.readouterr().err


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with odd_server() as server:
        gone = server.url
    assert main(["bench", "serve", "--url", gone]) == 1
    assert f"{gone} cannot be asked: no connection to" in capsys.readouterr().err


def test_a_server_without_models(server: OddServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.models = {}
    assert main(["bench", "serve", "--url", f"{server.url}/v1/"]) == 1
    assert f"{server.url}/v1/models answers 200 and lists no model" in capsys.readouterr().err


def test_requests_beyond_the_context_are_refused_before_anything_is_sent(
    server: OddServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model little takes 100 tokens: 60 + 20 + 20 just fit, and where no context is told nothing is said."""
    lengths = ("--requests", "2", "--shared-prefix", "60", "--output-tokens", "20")
    for model, inputs in (("little", "10-21"), ("little", "41")):
        words = ["bench", "serve", "--url", server.url, "--model", model, *lengths, "--input-tokens", inputs]
        assert main(words) == 2
        message = f"--shared-prefix 60, --input-tokens {inputs} and --output-tokens 20 are up to"
        assert message in capsys.readouterr().err
    assert server.asked == []
    for model, inputs in (("little", "20"), ("plain", "41")):
        assert bench(capsys, server, "--model", model, *lengths, "--input-tokens", inputs)["figures"]["answered"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", "2", "--concurrency", "3"), "use one of the two"),
        (("--url", "127.0.0.1:8000"), "an address such as http://127.0.0.1:8000 is needed"),
        (("--url", "http://x:99999"), "an address such as"),
        (("--input-tokens", "9-3"), "a range of them, such as 32-128"),
        (("--output-tokens", "0"), "a number of tokens is needed"),
        (("--vocab-size", "9", "--endpoint", "chat"), "a chat takes text"),
        (("--endpoint", "chats"), "did you mean chat?"),
        (("--concurency", "3"), "did you mean --concurrency?"),
        (("--json", "nowhere/r.json"), "there is no folder nowhere"),
        (("--plot", "p.gif"), "must end in"),
        (("--rate", "0"), "above 0"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "serve", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_verb_has_two_words(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["bench", "serve", "--help"], ["help", "bench", "serve"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("usage: mixtralkit bench serve [options]")
    assert main(["bench", "--help"]) == 0
    assert "`bench serve` measures a server" in capsys.readouterr().out.replace("\n", " ")
    assert main(["bench", "srve"]) == 2
    assert "no verb 'bench srve' (did you mean bench serve?)" in capsys.readouterr().err


def test_torch_is_not_needed(server: OddServer) -> None:
    """It may run on another machine than the server, one without torch."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from mixtralkit.cli.main import main\n"
        f"sys.exit(main(['bench', 'serve', '--url', '{server.url}', '--requests', '2']))"
    )
    done = run([PROGRAM[0], "-c", code])
    assert done.returncode == 0, done.stderr
    assert "2 answered, 0 failed" in done.stdout


def test_an_interrupted_run_tells_what_there_is(server: OddServer) -> None:
    """The third request waits for two more, which do not come; Ctrl-C ends the wait."""
    words = ["bench", "serve", "--url", server.url, "--model", "together", "--concurrency", "1", "--warm-up", "0"]
    process = start([*PROGRAM, *words])
    while not server.sent():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    server.barrier.abort()
    assert process.returncode == 130, err
    assert "0 answered, 1 failed, 31 not sent" in out
    assert "1 x unfinished" in out


def test_an_interrupted_warm_up_ends_all(server: OddServer) -> None:
    process = start([*PROGRAM, "bench", "serve", "--url", server.url, "--model", "together"])
    while not server.sent():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    server.barrier.abort()
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err


def test_files_are_written(server: OddServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    file, picture = tmp_path / "r.json", tmp_path / "r.svg"
    words = ["--requests", "3", "--json", str(file), "--plot", str(picture)]
    assert main(["bench", "serve", "--url", server.url, *words]) == 0
    assert capsys.readouterr().out == load_table(json.loads(file.read_text())) + "\n"
    assert "<svg" in picture.read_text()


def test_a_plot_of_failures_alone(server: OddServer, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "r.png"
    words = ["--model", "busy", "--warm-up", "0", "--plot", str(picture)]
    assert main(["bench", "serve", "--url", server.url, *words]) == 1
    assert picture.stat().st_size > 0


def test_a_plot_without_matplotlib_is_refused_before_anything_is_sent(
    server: OddServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_outputs.importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "serve", "--url", server.url, "--plot", "p.svg"]) == 2
    assert "pip install 'mixtralkit[bench]'" in capsys.readouterr().err
    assert server.asked == []


FIGURES = {
    "seconds": 12.5,
    "answered": 3,
    "failed": {"429": 2, "unfinished": 1},
    "not_sent": 4,
    "prompt_tokens": 30,
    "output_tokens": 2500,
    "requests_per_second": 0.24,
    "output_tokens_per_second": 200.0,
    "total_tokens_per_second": 202.4,
    "ttft": {"mean": 0.5, "median": 0.4, "p90": 1.25, "p99": 2.0},
    "tpot": None,
    "itl": {"mean": 0.0251, "median": 0.02, "p90": 0.03, "p99": 0.04},
    "latency": {"mean": 10.0, "median": 9.0, "p90": 11.0, "p99": 12.0},
    "short": 0,
    "uncounted": 1,
}
TABLE = """\
server   m at http://h, completions
load     10 requests, 2.5 a second at random; token ids, 64 after 512 shared ones in, 32-128 out
result   3 answered, 3 failed, 4 not sent, in 12.5 s; 30 tokens in, 2,500 out
         0.24 requests/s, 200 output tokens/s, 202 tokens/s in all

milliseconds                    mean   median       p90       p99
time to first token            500.0    400.0   1,250.0   2,000.0
between two pieces of text      25.1     20.0      30.0      40.0
end to end                  10,000.0  9,000.0  11,000.0  12,000.0

failed: 2 x 429, 1 x unfinished; the first:
  429: busy

the server did not count the tokens of 1 answer: taken to be one for each piece of text, and none in the prompts"""


def test_the_table() -> None:
    load = {
        "endpoint": "completions",
        "requests": 10,
        "rate": 2.5,
        "concurrency": None,
        "prompts": "token ids",
        "shared_prefix": 512,
        "input_tokens": {"least": 64, "most": 64},
        "output_tokens": {"least": 32, "most": 128},
    }
    server = {"model": "m", "url": "http://h"}
    errors = [{"kind": "429", "message": "busy"}]
    assert load_table({"server": server, "load": load, "figures": FIGURES, "first_errors": errors}) == TABLE
