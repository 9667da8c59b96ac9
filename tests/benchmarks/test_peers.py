"""What benchmarks/peers makes of its runs: ratios round by round, the choice of the best, and the outputs it reads."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The modules, which find each other as scripts do."""
    monkeypatch.syspath_prepend(str(PEERS))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in ("results", "rounds", "shape")})
    for name in ("results", "rounds", "shape", "contenders", "weights", "processors"):
        sys.modules.pop(name, None)


def test_ratios_are_those_of_a_round_and_the_best_of_a_system_counts(peers: SimpleNamespace) -> None:
    def outcome(name: str, *times: float, others: float = 0.0) -> object:
        milliseconds = dict(zip(peers.shape.MEASURES, times, strict=True))
        return peers.rounds.Outcome(name, milliseconds, {"decode 1": 90.0} if "kit" in name else {}, others)

    rounds = [
        [
            outcome("mixtralkit bf16", 10, 10, 10),
            outcome("transformers a", 30, 20, 40),
            outcome("transformers b", 20, 50, 10, others=1.0),
        ],
        [outcome("mixtralkit bf16", 20, 10, 10), outcome("transformers a", 80, 20, 40)],
    ]
    ratios_of = peers.results.ratios_of
    assert ratios_of(rounds, "mixtralkit bf16", "transformers", "decode 1") == [2.0, 4.0]
    assert ratios_of(rounds, "mixtralkit bf16", "transformers", "prefill 512") == [1.0, 4.0]
    assert ratios_of(rounds, "mixtralkit bf16", "vllm", "decode 1") == []
    assert peers.results.best_of(rounds[0], "transformers") == {"transformers a", "transformers b"}
    assert peers.results.disturbed(rounds) == 1
    assert peers.results.figures_table(rounds)[2:4] == [
        "| mixtralkit bf16 | 15.0 (10.0 to 20.0), 90 % of the limit | 10.0 (10.0 to 10.0) | 10.0 (10.0 to 10.0) |",
        "| transformers a | 55.0 (30.0 to 80.0) | 20.0 (20.0 to 20.0) | 40.0 (40.0 to 40.0) |",
    ]
    (line,) = peers.results.ratios_table(rounds)[2:]
    assert line.split(" | ") == [
        "| mixtralkit bf16 against transformers",
        "3.00 (2.00 to 4.00), goal 1.8: met",
        "2.00 (2.00 to 2.00), goal 3: missed",
        "2.50 (1.00 to 4.00), goal 1.2: met |",
    ]


def test_both_forms_of_output_are_read(peers: SimpleNamespace) -> None:
    figures_in = peers.rounds.figures_in
    assert figures_in('noise\nFIGURES {"decode 1": 2.5}\n') == ({"decode 1": 2.5}, {})
    figure = {
        "requests": 8,
        "prompt_tokens": 512,
        "milliseconds": {"median": 7.0},
        "percent_of_limit": {"median": 80.0},
    }
    document = {"runs": [{"figures": [{**figure, "phase": "decode"}, {**figure, "phase": "prefill"}]}]}
    assert figures_in(json.dumps(document)) == (
        {"decode 8": 7.0, "prefill 512": 7.0},
        {"decode 8": 80.0, "prefill 512": 80.0},
    )


def test_others_use_of_the_processors_is_told(peers: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender's own work is not held against it, whatever the machine does besides."""
    monkeypatch.setattr(peers.rounds, "wait_for_quiet", lambda: None)
    code = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\nprint('FIGURES {}')"
    busy = iter((100.0, 104.0))
    monkeypatch.setattr(peers.rounds, "busy_seconds", lambda: next(busy))
    contender = SimpleNamespace(name="x", command=(sys.executable, "-c", code), files=(), variables=())
    outcome = peers.rounds.run_once(contender, 1)
    assert 0 < outcome.others < 3.5 / 0.5
