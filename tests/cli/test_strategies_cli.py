"""Strategies as they are typed, on the demo model: the same responses, and a report of what was in force and did."""

import json
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.cli.main import main
from tests.cli.demo_runs import DEMO, PROMPTS, TOKENS, Done, generate, report, responses

LONG = 700  # tokens in which replicas get to their ranks, on a busy machine too
FASTER = {"FMOE_FASTER_SCHEDULE_ENABLE": "1", "FMOE_FASTER_SHADOW_ENABLE": "1", "FMOE_FASTER_GROUP_SIZE": "1"}
# Two nodes, if the user is to be believed, with a network so slow that replicas pay.
ADAPTIVE = ("--ranks-per-node", "1", "--placement", "adaptive", "--net-bandwidth", "1MB/s")


def begin_alike(short: Done, long: Done) -> bool:
    """Whether each response of the one begins with that of the other, which was to have fewer tokens."""
    pairs = zip(responses(short), responses(long), strict=True)
    return all(whole.startswith(part) for part, whole in pairs)


def strategies(done: Done) -> Any:
    return report(done)["strategies"]


def said(done: Done) -> str:
    """What was warned of, in one line."""
    return " ".join(done.stderr.split())


def test_without_strategies_none_is_in_force(plain_run: Done) -> None:
    told = strategies(plain_run)
    assert (told["in_force"], told["lines"], told["moves"], told["rates"]) == ({}, [], None, None)
    assert "warning" not in plain_run.stderr


def test_fastermoes_variables_keep_the_text_and_are_reported(plain_run: Done) -> None:
    """As typed for FasterMoE, and a flag beside them."""
    done = generate("--net-bandwidth", "1GB/s", variables=FASTER)
    assert responses(done) == responses(plain_run)
    told = strategies(done)
    sources = {name: facts["source"] for name, facts in told["in_force"].items()}
    assert sources == {
        "overlap": "FMOE_FASTER_SCHEDULE_ENABLE",
        "group_size": "FMOE_FASTER_GROUP_SIZE",
        "placement": "FMOE_FASTER_SHADOW_ENABLE",
        "network_bandwidth": "--net-bandwidth",
    }
    assert all(facts["effect"] for facts in told["in_force"].values())
    assert len(told["lines"]) == 4
    assert told["rates"]["network_bandwidth"] == 1e9
    assert told["rates"]["compute"] > 0
    assert sum(step["count"] for step in told["steps"]) == TOKENS
    assert told["moves"]["replicas_refused"] == 0
    placed = sum(rank["rows"] for rank in report(done)["ranks"])
    assert placed == told["rows_computed"] == told["rows"]


def test_hot_experts_are_on_both_ranks(plain_run: Done, hot_run: Done) -> None:
    assert responses(hot_run) == responses(plain_run)
    assert [rank["experts"] for rank in report(hot_run)["ranks"]] == [[0, 1, 2, 3], [0, 3, 4, 5, 6, 7]]
    told = strategies(hot_run)
    assert told["replicas"] == 2 * 5 + 1
    assert told["in_force"]["hot_experts"]["value"][1] == {"layer": 1, "experts": [6]}
    assert told["in_force"]["hot_experts"]["effect"].startswith("11 replicas, up to ")


def test_what_changes_the_text_is_warned_of_and_counted() -> None:
    """The long prompt has more rows for some experts than half their even share, and no row leaves its rank's node."""
    flags = ["--outgoing-fraction", "0", "--ranks-per-node", "1", "--capacity-factor", "0.5", "--capacity-min", "0"]
    done = generate(*flags, "--dispatch", "collective")
    assert said(done).count("--capacity-factor drops rows over the capacity of an expert, which may change") == 1
    assert said(done).count("at most 0 of a batch's rows leave their node") == 1
    assert "this changes the model" in said(done)
    told = strategies(done)
    effects = {name: facts["effect"] for name, facts in told["in_force"].items()}
    assert 0 < told["dropped_rows"] < told["rows"]
    assert told["rows_computed"] == told["rows"] - told["dropped_rows"]
    assert f"{told['dropped_rows']:,} rows of {told['rows']:,} dropped" in effects["capacity_factor"]
    assert effects["ranks_per_node"] == "2 nodes"
    assert told["rows_leaving_node"] == 0
    assert effects["outgoing_fraction"] == "0.0% of the rows left their node; it changes the model"


def test_nodes_that_are_only_said_to_be_work_with_everything(plain_run: Done) -> None:
    """They share memory all the same. Here rows go by the collective, elsewhere in this file by what auto takes."""
    done = generate(*ADAPTIVE, "--overlap", "auto", "--replica-memory", "20MB", "--dispatch", "collective", tokens=LONG)
    assert begin_alike(plain_run, done)
    assert strategies(done)["moves"]["replicas_fetched"] > 0


def test_the_end_may_come_while_replicas_are_on_their_way(plain_run: Done) -> None:
    """They begin to travel before the ninth step. Until they arrive, about half of the rows leave their node."""
    done = generate(*ADAPTIVE, tokens=10)
    assert begin_alike(done, plain_run)
    told = strategies(done)
    assert told["moves"]["replicas_fetched"] == 0
    assert 0.3 < told["rows_leaving_node"] / told["rows"] < 0.7


def test_a_plan_under_an_overlap(plain_run: Done, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    held = [[0, 2, 4, 6], [1, 3, 5, 7]], [[0, 1, 2, 3, 4, 5, 6, 7], [7]]
    layers = [held[layer % 2] for layer in range(5)]
    plan.write_text(json.dumps({"num_experts": 8, "world_size": 2, "layers": layers}))
    done = generate("--placement", str(plan), "--overlap", "3", "--dispatch", "collective")
    assert responses(done) == responses(plain_run)
    told = strategies(done)
    assert told["steps"] == [{"dispatch": "collective", "parts": 3, "count": TOKENS}]
    assert 0 < told["hidden_seconds"] <= told["communication_seconds"]
    assert f"cut {TOKENS} of {TOKENS} steps and hid" in told["in_force"]["overlap"]["effect"]
    assert [rank["experts"] for rank in report(done)["ranks"]] == [[0, 2, 4, 6], [7]]


def test_quantized_text_is_the_same_from_a_file_and_on_the_fly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written once and mapped by one process, against quantized by each of two ranks for itself, which fetch replicas
    from each other's share; one whose codes differed would be refused.
    """
    made = tmp_path / "made"
    assert main(["convert", "-m", str(DEMO), "--output", str(made), "--quantize", "int4"]) == 0
    capsys.readouterr()
    words = ["-m", str(made), "--max-tokens", str(LONG), "--report", "json"]
    assert main(["generate", *words, *PROMPTS]) == 0
    alone = json.loads(capsys.readouterr().out)
    done = generate(*ADAPTIVE, "--quantize", "int4", "--overlap", "auto", "--replica-memory", "20MB", tokens=LONG)
    assert responses(done) == [completion["response"] for completion in alone["completions"]]
    assert report(done)["quantized"] == {"kind": "int4", "bits_per_weight": 4.5, "parameters": 5_701_632}
    moves = strategies(done)["moves"]
    assert moves["replicas_fetched"] > 0
    assert moves["replicas_refused"] == 0
