"""What benchmarks/strategies makes of its runs: ratios round by round, the goals, the page; and what it runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.strategies.__main__ import arguments
from benchmarks.strategies.figures import Figures, Outcome, Setting, figures_of, median_of, ratios
from benchmarks.strategies.goals import goals_of
from benchmarks.strategies.job import Done
from benchmarks.strategies.rounds import check_text
from benchmarks.strategies.subjects import PROMPT_TOKENS, REQUESTS, SUBJECTS, whole_words, write_prompts
from benchmarks.strategies.table import setting_section
from benchmarks.strategies.variants import VARIANTS, flags_of, hot_experts
from benchmarks.zipf_checkpoint import TOKENIZER
from mixtralkit.tokenizer import Tokenizer

SLOW = Setting("zipf", 2, "100mbit")


def outcome(
    number: int, variant: str, prefill: float, decode: float, wire: int, hidden: float | None = None
) -> Outcome:
    return Outcome(SLOW, number, variant, Figures(prefill, decode, wire, wire, hidden, hidden, hidden, 2.0))


OUTCOMES = [
    outcome(0, "plain", 100, 10, 8_000_000),
    outcome(0, "overlap", 150, 10, 8_000_000, hidden=0.5),
    outcome(0, "hot experts", 200, 15, 4_000_000),
    outcome(0, "both", 250, 14, 4_000_000),
    outcome(1, "plain", 50, 10, 8_000_000),
    outcome(1, "overlap", 60, 9, 8_000_000, hidden=0.8),
    outcome(1, "hot experts", 150, 18, 3_200_000),
    outcome(1, "both", 120, 18, 3_200_000),
    outcome(2, "plain", 70, 10, 8_000_000),  # and the others failed
]


def test_ratios_are_those_of_a_round_to_the_best_of_the_others() -> None:
    prefill = [round(ratio, 3) for ratio in ratios(OUTCOMES, "both", ["overlap", "hot experts"], lambda f: f.prefill)]
    assert prefill == [1.25, 0.8]
    assert ratios(OUTCOMES, "hot experts", ["plain"], lambda f: f.decode) == [1.5, 1.8]
    assert ratios(OUTCOMES, "adaptive", ["plain"], lambda f: f.decode) == []
    assert median_of([1.0, None, 3.0]) == 2.0
    assert median_of([None]) is None


def test_goals_are_judged_by_medians() -> None:
    goals = {goal.text: (goal.found and round(goal.found, 3), goal.verdict) for goal in goals_of(SLOW, OUTCOMES)}
    assert goals == {
        "overlap / plain, prefill": (1.35, "met"),
        "overlap / plain, decode": (0.95, "missed"),
        "of the communication that fits under computation, hidden in the steps that were cut": (0.65, "met"),
        "the same of all steps": (0.65, "met"),
        "bytes between hosts, plain / hot experts": (2.25, "met"),
        "hot experts / plain, prefill": (2.5, "met"),
        "hot experts / plain, decode": (1.65, "missed"),
        "both / the better of the two, prefill": (1.025, "met"),
        "both / the better of the two, decode": (0.967, "missed"),
    }
    fast = replace(SLOW, rate="1gbit")
    assert [goal.text for goal in goals_of(fast, OUTCOMES)] == ["overlap / plain, prefill", "overlap / plain, decode"]
    assert {goal.verdict for goal in goals_of(SLOW, OUTCOMES[-1:])} == {"not measured"}


def test_the_page_has_a_row_a_variant_and_a_row_a_goal() -> None:
    lines = setting_section(SLOW, OUTCOMES)
    assert lines[0] == "## zipf, 2 hosts, 100mbit"
    assert (
        "| overlap | 105.0 (60.0 to 150.0) | 1.35 | 9.5 (9.0 to 10.0) | 0.95 | 8.0 (8.0 to 8.0) | 1.00 | 65% | 2.00 |"
        in lines
    )
    assert "| hot experts / plain, decode | 1.7 | 1.65 | missed |" in lines
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert columns == {10, 5}


def test_figures_come_from_the_report() -> None:
    report = {
        "prefill": {"tokens_per_second": 3.0},
        "decode": {"tokens_per_second": 2.0},
        "strategies": {
            "hidden_share": 0.5,
            "hidden_of_hideable": 0.75,
            "hidden_of_hideable_if_cut": 0.8,
            "bytes_between_nodes": 7,
            "imbalance": 1.5,
        },
    }
    assert figures_of(Done((), report, wire_bytes=9)) == Figures(3.0, 2.0, 9, 7, 0.5, 0.75, 0.8, 1.5)


def test_the_hottest_experts_of_each_layer_become_a_flag() -> None:
    assert hot_experts([[5, 9, 1, 7], [3, 2, 2, 0]]) == "0:0,1,3;1:0,1,2"
    assert flags_of("both", "0:1") == ["--overlap", "auto", "--hot-experts", "0:1"]
    assert all(flags_of(variant, "0:1") or variant == "plain" for variant in VARIANTS)


def test_another_text_ends_the_benchmark() -> None:
    check_text("run", ["a", "b"], ["a", "b"])
    with pytest.raises(RuntimeError, match="run answers prompt 1 with 'c', and one process with 'b'"):
        check_text("run", ["a", "c"], ["a", "b"])
    with pytest.raises(RuntimeError, match="run gave 1 responses, and one process 2"):
        check_text("run", ["a"], ["a", "b"])


def test_prompts_have_exactly_the_tokens_that_the_benchmark_names(tmp_path: Path) -> None:
    """A word that is two tokens would make prompts of another length, and is refused."""
    tokenizer = Tokenizer(TOKENIZER)
    demo = SUBJECTS["demo"](tmp_path, "")
    any_words = write_prompts(tmp_path / "any.jsonl", tokenizer, whole_words(tokenizer))
    for file in (demo.prompts, any_words):
        prompts = [json.loads(line) for line in file.read_text().splitlines()]
        assert [len(tokenizer.encode(prompt)) for prompt in prompts] == [PROMPT_TOKENS] * REQUESTS
    with pytest.raises(ValueError, match="tokens, not 128"):
        write_prompts(tmp_path / "long.jsonl", tokenizer, ["antidisestablishmentarianism"])


def test_the_command_line_is_checked_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    options = arguments(["--hosts", "2,3", "--variants", "plain,hot experts", "--", "--dispatch", "collective"])
    assert (options.hosts, options.variants) == ((2, 3), ("plain", "hot experts"))
    assert options.flags == ["--dispatch", "collective"]
    for words in (["--links", "fast"], ["--variants", "cold"], ["--hosts", "0"], ["--subjects", "demo,llama"]):
        with pytest.raises(SystemExit):
            arguments(words)
        assert words[1].split(",")[-1] in capsys.readouterr().err
