"""--explain: every alternative is there with its times, and the run is the same as without."""

import json
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.cli.explain_table import explain_lines
from mixtralkit.cli.main import main
from tests.cli.demo_runs import Done, document, generate

STEPS = ("prefill", "decode")


@pytest.fixture(scope="module")
def explained(hot_run: Done) -> dict[str, Any]:
    """With hot experts, so that there is another placement to go back to."""
    found: dict[str, Any] = document(hot_run)
    return found


def test_the_run_is_the_same(plain_run: Done, explained: dict[str, Any], hot_load: Path) -> None:
    """The text, and the rows both in the report, which is gathered before, and in the file, written after."""
    plain, load = document(plain_run), json.loads(hot_load.read_text())
    for key in ("prompt", "response", "finish_reason"):
        assert [c[key] for c in plain["completions"]] == [c[key] for c in explained["completions"]]
    report = explained["report"]
    assert report["rows_per_layer_and_expert"] == plain["report"]["rows_per_layer_and_expert"]
    rows_LE = [[sum(column) for column in zip(*rows_WE, strict=True)] for rows_WE in load["rows"]]
    assert rows_LE == report["rows_per_layer_and_expert"]
    assert "explain" not in plain["report"]


@pytest.mark.parametrize("name", STEPS)
def test_every_alternative_has_its_times(name: str, explained: dict[str, Any]) -> None:
    """That is predicted; what was measured is as many as there was time for. Nobody fetches experts to measure."""
    step = explained["report"]["explain"]["steps"][name]
    found = {(row["placement"], row["dispatch"], row["parts"]): row for row in step["alternatives"]}
    assert len(found) == len(step["alternatives"])
    assert {placement for placement, _, _ in found} >= {"even", "hot experts"}
    assert {dispatch for _, dispatch, _ in found} >= {"collective", "all_gather"}
    assert {parts for _, _, parts in found} == {1, 2, 3, 4, 6, 8}
    assert all(row["predicted_seconds"] > 0 for row in found.values())
    measured = [row for row in found.values() if row["measured_seconds"] is not None]
    for row in measured:
        assert row["measured_seconds"] > 0
        assert row["error"] == pytest.approx(row["predicted_seconds"] / row["measured_seconds"] - 1)
    chosen = [key for key, row in found.items() if row["chosen"]]
    assert chosen == [("hot experts", explained["report"]["dispatch"]["name"], 1)]
    assert found[chosen[0]]["measured_seconds"] is not None
    assert "overlap is off" in step["why"]


def test_the_steps_are_those_of_the_run(explained: dict[str, Any]) -> None:
    """The mean of each rank's tokens: in the prefill its prompt's, later one until its response has ended."""
    steps = explained["report"]["explain"]["steps"]
    by_rank = {completion["rank"]: completion["prompt_tokens"] for completion in explained["completions"]}
    assert steps["prefill"]["tokens_of_ranks"] == [by_rank[0], by_rank[1]]
    assert steps["decode"]["tokens_of_ranks"] == [1, 1]


def test_rates_are_told_by_way(explained: dict[str, Any]) -> None:
    """There is one node only, and no link to others."""
    rates = explained["report"]["explain"]["rates"]
    assert "collectives" in rates
    for its_rates in rates.values():
        assert its_rates["node_bandwidth"] > 0
        assert its_rates["network_bandwidth"] is None
        assert its_rates["given"] == {}


def test_text_for_people_and_a_forced_overlap() -> None:
    """A forced cut is compared with none; what the user gave is told. Without a report it is shown all the same."""
    flags = ["--overlap", "3", "--dispatch", "collective", "--compute-rate", "2GFLOPS", "--explain"]
    done = generate(*flags, tokens=9, report="none")
    lines = done.stderr.splitlines()
    assert any(line.startswith("collectives") and "2 GFLOP/s (--compute-rate)" in line for line in lines)
    chosen = [line for line in lines if line.startswith("Chosen: ")]
    assert len(chosen) == len(STEPS)
    assert all("collective (as asked), in 3 parts (as asked), experts placed evenly" in line for line in chosen)
    rows = [line.removeprefix("->").split() for line in lines if line.removeprefix("->").lstrip().startswith("even ")]
    assert {row[2] for row in rows} == {"1", "3"}


def test_a_rank_alone_has_nothing_to_choose(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "-m", str(checkpoint), "--max-tokens", "2", "--explain", "a"]) == 0
    assert "there is nothing to choose" in capsys.readouterr().out.partition("Report")[2]


def test_without_a_step_there_is_nothing_to_explain() -> None:
    assert explain_lines({"nothing_to_choose": False, "rates": {}, "steps": {}}) == [
        "No step has run: there is nothing to explain."
    ]
