"""Strategies as they are typed, on the demo model: the same responses, and a report of what was in force and did."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.cli.shell import PROGRAM, ROOT, run

DEMO = ROOT / "demo" / "shakespeare"
PROMPTS = ("ROMEO:\n", "To be, or not to be, that is the question: whether it is nobler in the mind to suffer")
LONG = 250  # tokens in which replicas get to their ranks, on a busy machine too
FASTER = {"FMOE_FASTER_SCHEDULE_ENABLE": "1", "FMOE_FASTER_SHADOW_ENABLE": "1", "FMOE_FASTER_GROUP_SIZE": "1"}


def generate(*words: str, tokens: int = 60, variables: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[str]":
    """Run it to its end, which must be a good one."""
    fixed = ["-m", str(DEMO), "--max-tokens", str(tokens), "--report", "json"]
    done = run([*PROGRAM, "generate", *fixed, *words, *PROMPTS], **variables)
    assert done.returncode == 0, done.stderr
    return done


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


def document(done: "subprocess.CompletedProcess[str]") -> Any:
    """The output as JSON, as strict readers see it."""
    return json.loads(done.stdout, parse_constant=_no_constant)


def responses(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [completion["response"] for completion in document(done)["completions"]]


def begin_alike(short: "subprocess.CompletedProcess[str]", long: "subprocess.CompletedProcess[str]") -> bool:
    """Whether each response of the one begins with that of the other, which was to have fewer tokens."""
    pairs = zip(responses(short), responses(long), strict=True)
    return all(whole.startswith(part) for part, whole in pairs)


def strategies(done: "subprocess.CompletedProcess[str]") -> Any:
    return document(done)["report"]["strategies"]


def said(done: "subprocess.CompletedProcess[str]") -> str:
    """What was warned of, in one line."""
    return " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def plain() -> "subprocess.CompletedProcess[str]":
    """Two ranks without any strategy."""
    return generate("--nproc", "2")


def test_without_strategies_none_is_in_force(plain: "subprocess.CompletedProcess[str]") -> None:
    told = strategies(plain)
    assert (told["in_force"], told["lines"], told["moves"], told["rates"]) == ({}, [], None, None)
    assert "warning" not in plain.stderr


def test_fastermoes_variables_keep_the_text_and_are_reported(plain: "subprocess.CompletedProcess[str]") -> None:
    """As typed for FasterMoE, and a flag beside them."""
    done = generate("--nproc", "2", "--net-bandwidth", "1GB/s", variables=FASTER)
    assert responses(done) == responses(plain)
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
    assert sum(step["count"] for step in told["steps"]) == 60
    assert told["moves"]["replicas_refused"] == 0
    placed = sum(rank["rows"] for rank in document(done)["report"]["ranks"])
    assert placed == told["rows_computed"] == told["rows"]


def test_hot_experts_are_on_both_ranks(plain: "subprocess.CompletedProcess[str]") -> None:
    done = generate("--nproc", "2", "--hot-experts", "0,3;1:6")
    assert responses(done) == responses(plain)
    report = document(done)["report"]
    assert [rank["experts"] for rank in report["ranks"]] == [[0, 1, 2, 3], [0, 3, 4, 5, 6, 7]]
    told = report["strategies"]
    assert told["replicas"] == 2 * 5 + 1
    assert told["in_force"]["hot_experts"]["value"][1] == {"layer": 1, "experts": [6]}
    assert told["in_force"]["hot_experts"]["effect"].startswith("11 replicas, up to ")


def test_rows_over_a_capacity_are_warned_of_and_counted() -> None:
    """The long prompt has more rows for some experts than half their even share."""
    done = generate("--nproc", "2", "--capacity-factor", "0.5", "--capacity-min", "0")
    told = strategies(done)
    assert said(done).count("--capacity-factor drops rows over the capacity of an expert, which may change") == 1
    assert 0 < told["dropped_rows"] < told["rows"]
    assert told["rows_computed"] == told["rows"] - told["dropped_rows"]
    assert f"{told['dropped_rows']:,} rows of {told['rows']:,} dropped" in told["in_force"]["capacity_factor"]["effect"]


def test_a_limit_of_what_leaves_the_node_is_warned_of() -> None:
    """With each rank a node of its own and a fraction of 0, no row leaves it; without the limit about half do."""
    done = generate("--nproc", "2", "--outgoing-fraction", "0", "--ranks-per-node", "1", "--dispatch", "collective")
    assert said(done).count("at most 0 of a batch's rows leave their node") == 1
    assert "this changes the model" in said(done)
    told = strategies(done)
    assert told["in_force"]["ranks_per_node"]["effect"] == "2 nodes"
    assert told["rows_leaving_node"] == 0
    assert told["in_force"]["outgoing_fraction"]["effect"] == "0.0% of the rows left their node; it changes the model"
    free = strategies(generate("--nproc", "2", "--ranks-per-node", "1", "--dispatch", "collective"))
    assert 0.3 < free["rows_leaving_node"] / free["rows"] < 0.7


@pytest.mark.parametrize("dispatch", ["auto", "collective"])
def test_nodes_that_are_only_said_to_be_work_with_everything(
    plain: "subprocess.CompletedProcess[str]", dispatch: str
) -> None:
    """All ranks share memory all the same, so auto takes peer where it is."""
    words = ["--overlap", "auto", "--placement", "adaptive", "--net-bandwidth", "1MB/s", "--replica-memory", "20MB"]
    done = generate("--nproc", "2", "--ranks-per-node", "1", "--dispatch", dispatch, *words, tokens=LONG)
    assert begin_alike(plain, done)
    assert strategies(done)["moves"]["replicas_fetched"] > 0


def test_the_end_may_come_while_replicas_are_on_their_way(plain: "subprocess.CompletedProcess[str]") -> None:
    """They begin to travel before the ninth step."""
    words = ["--placement", "adaptive", "--net-bandwidth", "1MB/s", "--ranks-per-node", "1"]
    done = generate("--nproc", "2", *words, tokens=10)
    assert begin_alike(done, plain)
    assert strategies(done)["moves"]["replicas_fetched"] == 0


def test_a_plan_under_an_overlap(plain: "subprocess.CompletedProcess[str]", tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    held = [[0, 2, 4, 6], [1, 3, 5, 7]], [[0, 1, 2, 3, 4, 5, 6, 7], [7]]
    layers = [held[layer % 2] for layer in range(5)]
    plan.write_text(json.dumps({"num_experts": 8, "world_size": 2, "layers": layers}))
    done = generate("--nproc", "2", "--placement", str(plan), "--overlap", "3", "--dispatch", "collective")
    assert responses(done) == responses(plain)
    told = strategies(done)
    assert told["steps"] == [{"dispatch": "collective", "parts": 3, "count": 60}]
    assert 0 < told["hidden_seconds"] <= told["communication_seconds"]
    assert "cut 60 of 60 steps and hid" in told["in_force"]["overlap"]["effect"]
    assert [rank["experts"] for rank in document(done)["report"]["ranks"]] == [[0, 2, 4, 6], [7]]


def test_quantized_experts_are_fetched_quantized() -> None:
    """By two ranks that quantize for themselves; a replica whose codes differed would be refused."""
    words = ["--quantize", "int4", "--ranks-per-node", "1"]
    adaptive = ["--placement", "adaptive", "--net-bandwidth", "1MB/s", "--replica-memory", "20MB"]
    done = generate("--nproc", "2", *words, *adaptive, tokens=LONG)
    assert responses(done) == responses(generate("--quantize", "int4", tokens=LONG))
    moves = strategies(done)["moves"]
    assert moves["replicas_fetched"] > 0
    assert moves["replicas_refused"] == 0
