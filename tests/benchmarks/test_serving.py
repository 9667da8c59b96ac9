"""What benchmarks/serving makes of its runs: ratios round by round, the goals, the page; and how it runs servers."""

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from benchmarks.peers.shape import PROMPT
from benchmarks.serving import contenders, engine_overhead, loads, server_process
from benchmarks.serving.__main__ import arguments, page
from benchmarks.serving.contenders import OURS, Contender
from benchmarks.serving.engine_overhead import Pass, overhead_of
from benchmarks.serving.page import figures_table, goals_table, prefix_table, throughput_ratios
from benchmarks.serving.rounds import Outcome
from benchmarks.serving.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, pieces_of, whole_pieces
from benchmarks.zipf_checkpoint import TOKENIZER
from mixtralkit.tokenizer import Tokenizer
from tests.bench.load.odd_server import odd_server
from tests.small_tokenizer import PIECES, small_tokenizer


def outcome(name: str, number: int, rate: float, *pairs: tuple[float, float], share: float | None = None) -> Outcome:
    times = {"median": 0.1, "p99": 0.2}
    figures = {
        "output_tokens_per_second": rate,
        "requests_per_second": rate / 64,
        "ttft": times,
        "tpot": times,
        "itl": times,
    }
    overhead = None if share is None else {"share": share}
    return Outcome(name, number, figures, list(pairs), overhead, others=0.0)


OUTCOMES = [
    outcome(OURS, 0, 160, (0.9, 0.1), share=0.04),
    outcome("llama.cpp", 0, 80, (2.0, 1.0)),
    outcome("vllm", 0, 100, (2.0, 1.0)),
    replace(outcome("vllm", 1, 50, (3.0, 1.0)), others=1.0),
    outcome(OURS, 1, 100, (0.7, 0.1), share=0.08),
]


def test_ratios_are_to_the_best_other_of_the_same_round() -> None:
    assert throughput_ratios(OUTCOMES) == [1.6, 2.0]
    assert throughput_ratios([each for each in OUTCOMES if each.contender == OURS]) == []


def test_goals_are_judged_by_medians() -> None:
    assert goals_table(OUTCOMES)[2:] == [
        "| output tokens/s, 1.5 times the best other | 1.80 (1.60 to 2.00) | met |",
        "| first token 8 times sooner after a known beginning | 8.00 (7.00 to 9.00) | met |",
        "| at most 5% of a step beside the forward | 6.00 (4.00 to 8.00) % | missed |",
    ]
    assert goals_table(OUTCOMES[1:4])[2:] == []  # ours was not measured


def test_tables_have_a_line_a_server() -> None:
    assert [line.split(" | ")[:2] for line in figures_table(OUTCOMES)[2:]] == [
        [f"| {OURS}", "130.0 (100.0 to 160.0)"],
        ["| llama.cpp", "80.0 (80.0 to 80.0)"],
        ["| vllm", "75.0 (50.0 to 100.0)"],
    ]
    assert (
        "| vllm | 2,500.0 (2,000.0 to 3,000.0) | 1,000.0 (1,000.0 to 1,000.0) | 2.50 (2.00 to 3.00) |"
        in prefix_table(OUTCOMES)
    )


def test_the_page_tells_what_took_part_and_what_was_disturbed() -> None:
    others = {"llama.cpp": "1.2", "vllm": "left out: no room"}
    facts = {"date": "today", "device": "an abacus", "command": "c", "threads": 2, "requests": 32, "rounds": 2}
    text = page({**facts, "others": others}, OUTCOMES)
    assert "an abacus, 2 threads; llama.cpp 1.2, vllm left out: no room." in text
    assert "disturbed 1 of 5 runs" in text
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {8, 5, 4}


def test_overhead_is_what_a_step_takes_beyond_a_forward_alone() -> None:
    """Two pairs of decode steps by hand, of 10 and 20 ms after forwards of 9 and 12; prefill and fewer do not count."""
    passes = [
        Pass(64, 0.0, 0.5, None),
        Pass(4, 0.6, 0.65, 0.009),
        Pass(4, 0.66, 0.668, None),
        Pass(4, 0.67, 0.71, 0.012),
        Pass(4, 0.72, 0.736, None),
        Pass(4, 0.74, 0.8, 0.5),
        Pass(2, 0.9, 1.0, None),
    ]
    found = overhead_of(passes, 4)
    assert found["steps"] == 2
    assert found["step_milliseconds"] == pytest.approx(15)
    assert found["forward_milliseconds"] == pytest.approx(12)
    assert found["alone_milliseconds"] == pytest.approx(10.5)
    assert found["share"] == pytest.approx((0.1 + 0.4) / 2)


def test_the_engine_is_timed_on_the_demo_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_overhead, "VOCAB", Tokenizer(TOKENIZER).vocab_size)
    passes = engine_overhead.timed_passes(str(TOKENIZER.parent), 3)
    found = overhead_of(passes, 3)
    assert passes[0].tokens >= PROMPT
    assert found["steps"] >= engine_overhead.PAIRS
    assert -0.5 < found["share"] < 1


def test_pieces_have_their_kinds_and_every_token_has_a_text_for_vllm(tmp_path: Path) -> None:
    small_tokenizer(tmp_path)
    model = (tmp_path / "tokenizer.model").read_bytes()
    pieces = pieces_of(model)
    assert [kind for _, _, kind in pieces[:3]] == [UNKNOWN, CONTROL, CONTROL]
    assert [kind for _, _, kind in pieces[3:259]] == [BYTE] * 256
    assert {kind for _, _, kind in pieces[259:]} == {NORMAL}
    document: dict[str, Any] = whole_pieces(pieces)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert document["model"]["vocab"] == {processor.id_to_piece(token): token for token in range(PIECES)}


def server(code: str) -> Contender:
    return Contender("small", "1", lambda port: (sys.executable, "-c", code, str(port)), ())


HEALTHY = """
import sys, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_server_is_waited_for_and_stopped(tmp_path: Path) -> None:
    with server_process.running(server(HEALTHY), 1, tmp_path) as url:
        port = int(url.rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"small ended with status 3:\nno weights"),
        server_process.running(server("print('no weights'); raise SystemExit(3)"), 1, tmp_path),
    ):
        pass


def test_loads_are_those_of_bench_serve() -> None:
    with odd_server() as running:
        figures = loads.under_load(running.url, loads.Load(3, 5, 4), seed=0)
        assert (figures["answered"], figures["prompt_tokens"], figures["output_tokens"]) == (3, 15, 12)
        assert len(loads.prefix_seconds(running.url, seed=0)) == loads.PAIRS
        prompts = [json.dumps(asked["prompt"][: loads.PREFIX]) for asked in running.sent()[-2 * loads.PAIRS :]]
        assert [prompts.count(prompt) for prompt in prompts] == [2] * len(prompts)
        running.models = {"short": None}
        with pytest.raises(RuntimeError, match="'short': 2"):
            loads.under_load(running.url, loads.Load(2, 5, 4), seed=0)


def test_the_command_line() -> None:
    options = arguments(["--work", "w", "--only", "vllm", "--rounds", "5"])
    assert (options.only, options.rounds, options.requests) == (("vllm",), 5, 32)
    assert arguments(["--work", "w", "--only", "none"]).only == ()


def test_a_server_that_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--work", "w", "--only", "vllm,foo"])
    assert "there is no 'foo'; give some of llama.cpp, vllm, or none" in capsys.readouterr().err


def test_an_environment_without_a_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no llama-server; give one with --llama-server"):
        contenders.llama_cpp(tmp_path, 2, tmp_path / "bin/python", None)
