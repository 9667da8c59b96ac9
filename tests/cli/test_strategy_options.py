"""Flags and variables of the strategies: which wins, what is refused before torch is imported, what is said."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.cli.arguments import check_arguments, words_of
from mixtralkit.cli.chosen_strategies import FLAGS, NAMES, VARIABLES
from mixtralkit.cli.help_text import verb_help
from mixtralkit.cli.main import main
from mixtralkit.cli.option import options_of
from mixtralkit.cli.options import ChatOptions, GenerateOptions
from mixtralkit.cli.ranks import beliefs
from mixtralkit.cli.strategy_notices import strategy_notices
from mixtralkit.cli.strategy_options import StrategyOptions
from mixtralkit.cli.strategy_report import strategy_document, strategy_lines
from mixtralkit.cli.verbs import VERBS
from mixtralkit.dist.preflight import check_agreement
from mixtralkit.errors import LaunchError, UsageError
from mixtralkit.fastermoe_env import KNOWN, fastermoe_env
from mixtralkit.moe.strategies import Strategies

ON = {"FMOE_FASTER_SCHEDULE_ENABLE": "1", "FMOE_FASTER_SHADOW_ENABLE": "1"}


def options_for(typed: str) -> GenerateOptions:
    """The options for a command line, as the program makes them."""
    options = {item.name: item for item in options_of(GenerateOptions)}
    words = check_arguments(list(options.values()), ["-m", "x", *typed.split()])
    pairs = [word.removeprefix("--").split("=", 1) for word in words]
    values: dict[str, Any] = {name: options[name].parse(value) for name, value in pairs}
    return GenerateOptions(**values)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fastermoe_env.cache_clear()


@pytest.mark.parametrize("name", ["generate", "chat"])
def test_the_help_names_each_flag_with_its_variable(name: str) -> None:
    (verb,) = (verb for verb in VERBS if verb.name == name)
    entries = verb_help("x", verb).replace("\n" + " " * 30, " ").splitlines()
    assert set(VARIABLES.values()) == set(KNOWN)
    for field in NAMES:
        (entry,) = (entry for entry in entries if entry.startswith(f"  {FLAGS[field]} "))
        assert (f"[{VARIABLES[field]}]" in entry) if field in VARIABLES else "[FMOE" not in entry


def test_every_strategy_has_a_flag() -> None:
    flags = {item.flag for item in options_of(StrategyOptions)}
    assert flags == {*FLAGS.values(), "--trace", "--explain", "--expert-load"}


def test_nothing_is_on_unless_asked_for() -> None:
    strategies = options_for("").strategies
    assert strategies == Strategies()
    assert strategies.sources == {}


@pytest.mark.parametrize(
    ("typed", "field", "value"),
    [
        ("--overlap auto", "overlap", "auto"),
        ("--overlap 4", "overlap", 4),
        ("--overlap off", "overlap", "off"),
        ("--group-size 2", "group_size", 2),
        ("--group-size auto", "group_size", None),
        ("--placement adaptive", "placement", "adaptive"),
        ("--hot-experts 3,0", "hot_experts", ((None, (0, 3)),)),
        ("--hot-experts 0:1,2;5:3", "hot_experts", ((0, (1, 2)), (5, (3,)))),
        ("--hot-experts 7;5:3", "hot_experts", ((None, (7,)), (5, (3,)))),
        ("--replica-memory 2GiB", "replica_memory", 2 * 1024**3),
        ("--net-bandwidth 10Gbit/s", "network_bandwidth", 1.25e9),
        ("--compute-rate 11.5TFLOPS", "compute_rate", 11.5e12),
        ("--alpha 3.5", "alpha", 3.5),
        ("--d-model 4096", "d_model", 4096),
        ("--ranks-per-node 8", "ranks_per_node", 8),
        ("--outgoing-fraction 0.14", "outgoing_fraction", 0.14),
        ("--capacity-factor 1.25", "capacity_factor", 1.25),
        ("--capacity-factor 1 --capacity-min 0", "capacity_min", 0),
        ("--capacity-cold 0.5", "capacity_cold", 0.5),
    ],
)
def test_a_flag_sets_its_field(typed: str, field: str, value: object) -> None:
    options = options_for(typed)
    assert getattr(options.strategies, field) == value
    assert options.strategies.sources[field] == FLAGS[field]
    assert options_for(" ".join(words_of(options, without=("model_weights",)))) == options


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        (ON, {"overlap": "auto", "placement": "adaptive"}),
        (dict.fromkeys(ON, "OFF"), {"overlap": "off", "placement": "even"}),
        ({"FMOE_FASTER_GROUP_SIZE": "4"}, {"group_size": 4}),
        ({"FMOE_FASTER_GLBPLC_NETBW": "12.5"}, {"network_bandwidth": 12.5e9}),
        ({"FMOE_FASTER_GLBPLC_GPUTP": "13e12"}, {"compute_rate": 13e12}),
        ({"FMOE_FASTER_GLBPLC_ALPHA": "2"}, {"alpha": 2.0}),
        ({"FMOE_FASTER_GLBPLC_DMODEL": "1024"}, {"d_model": 1024}),
        ({"FMOE_TOPO_GPUS_PER_NODE": "2"}, {"ranks_per_node": 2}),
        ({"FMOE_TOPO_OUTGOING_FRACTION": "0"}, {"outgoing_fraction": 0.0}),
    ],
)
def test_a_variable_sets_its_field(
    variables: dict[str, str], fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    strategies = options_for("").strategies
    assert strategies == Strategies(**fields)
    assert strategies.sources == {field: VARIABLES[field] for field in fields}


@pytest.mark.parametrize(
    ("typed", "fields"),
    [
        ("--overlap off", {"overlap": "off", "placement": "adaptive", "group_size": 4}),
        ("--placement even", {"overlap": "auto", "placement": "even", "group_size": 4}),
        ("--group-size auto", {"overlap": "auto", "placement": "adaptive", "group_size": None}),
        # Flags that would contradict a variable of another meaning.
        ("--overlap 3", {"overlap": 3, "placement": "adaptive", "group_size": None}),
        ("--hot-experts 0", {"overlap": "auto", "placement": "even", "group_size": 4}),
    ],
)
def test_a_flag_goes_before_a_variable(typed: str, fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {**ON, "FMOE_FASTER_GROUP_SIZE": "4"})
    strategies = options_for(typed).strategies
    assert {field: getattr(strategies, field) for field in fields} == fields


# No "torch" can be imported, so a refusal that needs it fails in another way.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from mixtralkit.cli.main import main
sys.exit(main(["generate", "-m", "x", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    ("typed", "variables", "message"),
    [
        ("--placement adaptive --hot-experts 0", {}, "--placement adaptive decides which experts have replicas"),
        ("", {"FMOE_FASTER_SHADOW_ENABLE": "maybe"}, "FMOE_FASTER_SHADOW_ENABLE is 'maybe'; 1, ON, true or yes"),
    ],
)
def test_refusals_come_without_torch(typed: str, variables: dict[str, str], message: str) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, *typed.split()]
    run = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert message in " ".join(run.stderr.split())


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--overlap 1", "--overlap is '1'; off, auto or a whole number of at least 2 is needed"),
        ("--overlap on", "--overlap is 'on'; off, auto or"),
        ("--group-size 0", "--group-size is '0'; auto or a whole number of ranks of at least 1"),
        ("--overlap 4 --group-size 2", "--overlap 4 cuts the rows into chunks and --group-size 2 into groups of ranks"),
        ("--placement adaptve", "there is no such file (did you mean adaptive?)"),
        ("--placement /nowhere.json", "even, adaptive or a file with a plan is needed, and there is no such file"),
        ("--hot-experts 0:", "experts such as 0,3 (in all layers) or, by layer, 0:1,2;5:3 are needed"),
        ("--hot-experts 0;;1", "experts such as 0,3"),
        ("--hot-experts 0:1:2", "experts such as 0,3"),
        ("--hot-experts -1", "experts such as 0,3"),
        ("--hot-experts 0:1;0:2", "each layer may be given once"),
        ("--replica-memory 2G", "such as 2GiB"),
        ("--net-bandwidth fast", "such as 1.25GB/s"),
        ("--compute-rate 0", "such as 11.5TFLOPS"),
        ("--alpha 0", "--alpha is '0'; a number above 0 is needed"),
        ("--outgoing-fraction 14", "a fraction from 0 to 1 is needed"),
        ("--capacity-min 4", "--capacity-min 4 needs a capacity factor too"),
        ("--capacity-cold 0", "--capacity-cold is '0'; a number above 0 is needed"),
    ],
)
def test_what_is_refused(typed: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "-m", "x", *typed.split()]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_plan_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "even").write_text("{}")
    assert options_for("--placement even").strategies.plan_file is None
    options = options_for("--placement ./even")
    assert options.strategies.plan_file == tmp_path / "even"
    assert words_of(options, without=("model_weights",)) == [f"--placement={tmp_path / 'even'}"]


@pytest.mark.parametrize(
    ("typed", "variables", "messages"),
    [
        ("", {}, []),
        ("", ON, []),
        ("--group-size 2", {}, ["--group-size has no effect: it is for an overlap, which is off"]),
        ("--overlap auto --group-size 2", {}, []),
        ("--replica-memory 1GB", {}, ["--replica-memory has no effect: it is for replicas, and the placement is even"]),
        ("--replica-memory 1GB --hot-experts 0", {}, []),
        (
            "",
            {"FMOE_FASTER_GLBPLC_NETBW": "10"},
            ["FMOE_FASTER_GLBPLC_NETBW has no effect: it is for what an automatic"],
        ),
        ("--compute-rate 1TFLOPS --explain", {}, []),
        ("--hot-experts 1", ON, ["FMOE_FASTER_SHADOW_ENABLE has no effect beside --hot-experts"]),
        ("--overlap 2", {"FMOE_FASTER_GROUP_SIZE": "4"}, ["FMOE_FASTER_GROUP_SIZE has no effect beside --overlap"]),
        ("", {"FMOE_FASTER_SHADOWS_ENABLE": "1"}, ["has no meaning here (did you mean FMOE_FASTER_SHADOW_ENABLE?)"]),
    ],
)
def test_what_is_said(
    typed: str, variables: dict[str, str], messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, variables)
    said = strategy_notices(options_for(typed), fastermoe_env())
    assert len(said) == len(messages)
    assert all(message in text for message, text in zip(messages, said, strict=True))


def test_what_may_change_the_text_is_said_beforehand() -> None:
    """Whichever rank will drop rows: what that one logs would not be seen."""
    env = fastermoe_env()
    assert strategy_notices(options_for("--overlap 4 --hot-experts 1"), env) == []
    (notice,) = strategy_notices(options_for("--capacity-factor 0.5"), env)
    assert notice.startswith("--capacity-factor drops rows over the capacity of an expert, which may change the text")
    assert len(strategy_notices(options_for("--capacity-factor 2 --capacity-cold 1"), env)) == 2


def test_ranks_agree_on_what_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable on one host and a flag on the other may ask for the same thing, but not for two things."""
    by_flag, nothing = beliefs(options_for("--overlap auto")), beliefs(options_for(""))
    set_variables(monkeypatch, {"FMOE_FASTER_SCHEDULE_ENABLE": "1"})
    by_variable = beliefs(options_for(""))
    check_agreement({"rank 0": by_flag, "rank 1": by_variable})
    words = "--overlap or FMOE_FASTER_SCHEDULE_ENABLE is auto for rank 0, off for rank 1"
    with pytest.raises(LaunchError, match=words):
        check_agreement({"rank 0": by_variable, "rank 1": nothing})


def test_paths_may_differ_between_hosts_but_not_whether_there_is_a_file(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    here = beliefs(options_for(f"--placement {tmp_path}/a.json --trace a --expert-load a"))
    there = beliefs(options_for(f"--placement {tmp_path}/b.json --trace b --expert-load b"))
    assert here == there
    without = beliefs(options_for(""))
    different = {name for name in here if here[name] != without[name]}
    assert different == {"--placement or FMOE_FASTER_SHADOW_ENABLE", "--trace", "--expert-load"}


def test_options_made_in_python_are_checked_too() -> None:
    with pytest.raises(UsageError, match="--capacity-min 2 needs a capacity factor too"):
        ChatOptions(model_weights=Path("x"), capacity_min=2)


def test_the_report_says_what_was_in_force_and_from_where(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"FMOE_FASTER_GLBPLC_NETBW": "1.25GB/s", "FMOE_FASTER_GROUP_SIZE": "auto"})
    strategies = options_for(
        "--overlap auto --hot-experts 0,3;2:1 --replica-memory 2GB --compute-rate 166GFLOPS"
    ).strategies
    assert strategy_lines(strategies, {"overlap": "63 % hidden", "placement": "4 copies"}) == [
        "overlap auto (--overlap): 63 % hidden",
        "group size auto (FMOE_FASTER_GROUP_SIZE)",
        "placement even (default): 4 copies",
        "hot experts 0, 3; layer 2: 1 (--hot-experts)",
        "replica memory 2 GB (--replica-memory)",
        "network bandwidth 1.25 GB/s (FMOE_FASTER_GLBPLC_NETBW)",
        "compute rate 166 GFLOP/s (--compute-rate)",
    ]
    assert strategy_lines(Strategies()) == []


def test_the_report_as_json() -> None:
    strategies = Strategies(overlap=4, placement=Path("plan.json"), sources={"overlap": "--overlap"})
    assert strategy_document(strategies, {"overlap": "hidden"}) == {
        "overlap": {"value": 4, "source": "--overlap", "effect": "hidden"},
        "placement": {"value": "plan.json", "source": "options", "effect": None},
    }
    hot = strategy_document(Strategies(hot_experts=((None, (0, 3)), (2, (1,)))))["hot_experts"]["value"]
    assert hot == [{"layer": None, "experts": [0, 3]}, {"layer": 2, "experts": [1]}]
