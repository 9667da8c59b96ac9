"""`mixtralkit experts` as it is typed: a run's load, a saved one, what a placement makes of it, and a picture."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.cli import bench_outputs
from mixtralkit.cli.experts_options import ExpertsOptions
from mixtralkit.cli.experts_plan import plan_placements, target_topology
from mixtralkit.cli.heat_text import SHADES, heat_lines
from mixtralkit.cli.main import main
from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.load_profile import LoadProfile, ProfiledModel, read_profile, write_profile
from mixtralkit.moe.placement.plan_file import read_plan
from tests.cli.conftest import CONFIG
from tests.cli.shell import PROGRAM, run
from tests.cli.test_generate import PROMPTS

MODEL = ProfiledModel(
    name="skewed", num_layers=2, num_experts=4, top_k=1, dim=64, hidden_dim=256, expert_bytes=98_304, row_bytes=256
)
# Four ranks on two nodes. In layer 0, all want expert 0; layer 1 is even.
SKEWED = ((1000, 40, 30, 20),) * 4
EVEN = ((250, 250, 250, 250),) * 4
PROFILE = LoadProfile(MODEL, 4, (0, 0, 1, 1), (SKEWED, EVEN))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The file of `PROFILE`."""
    write_profile(PROFILE, tmp_path / "load.json")
    return tmp_path / "load.json"


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The JSON document of the verb."""
    assert main(["experts", *words, "--report", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_has_the_load_that_generate_reports(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same prompts and tokens by the other verb; a response's last token is never fed."""
    words = ["-m", str(checkpoint), "--max-tokens", "4", *PROMPTS]
    document = shown(capsys, *words, "--save", str(tmp_path / "load.json"))
    assert main(["generate", *words, "--report", "json"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert document["rows_per_layer_and_expert"] == report["rows_per_layer_and_expert"]
    fed = report["prefill"]["tokens"] + report["decode"]["tokens"]
    assert document["measured"] == {"tokens": fed, "steps": 4, "world_size": 1, "nodes": 1}
    profile = read_profile(tmp_path / "load.json")
    assert [list(rows_E) for rows_E in profile.rows_LE] == report["rows_per_layer_and_expert"]
    assert profile.model == ProfiledModel(
        name=checkpoint.name,
        num_layers=CONFIG.num_layers,
        num_experts=CONFIG.num_experts,
        top_k=CONFIG.top_k,
        dim=CONFIG.dim,
        hidden_dim=CONFIG.hidden_dim,
        expert_bytes=4 * CONFIG.expert_params,
        row_bytes=4 * CONFIG.dim,
    )


def test_two_ranks_count_what_one_does(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each rank answers one of the prompts."""
    words = ["-m", str(checkpoint), "--max-tokens", "4", *PROMPTS]
    alone = shown(capsys, *words)
    save = ("--save", str(tmp_path / "load.json"), "--report", "json")
    done = run([*PROGRAM, "experts", "--nproc", "2", *words, *save], OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rows_per_layer_and_expert"] == alone["rows_per_layer_and_expert"]
    profile = read_profile(tmp_path / "load.json")
    assert (profile.world_size, profile.topology.num_nodes) == (2, 1)
    assert all(sum(rows_E) > 0 for rows_WE in profile.rows_LWE for rows_E in rows_WE)
    (even,) = document["placements"]
    assert [sum(rows) for rows in even["rows_per_layer_and_rank"]] == [sum(r) for r in profile.rows_LE]
    assert 0 < even["share_leaving_rank"] < 1
    assert even["share_leaving_node"] == 0


def test_replicas_are_chosen_within_the_memory(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slow network and room for two replicas a rank: what all want is on both nodes, and little travels any more."""
    plan = saved.with_name("plan.json")
    memory = ("--replica-memory", str(2 * MODEL.expert_bytes + 100), "--net-bandwidth", "100Mbit/s")
    before, after = shown(capsys, "--profile", str(saved), *memory, "--plan", str(plan))["placements"]
    placements = read_plan(plan, num_layers=2, num_experts=4, world_size=4)
    assert {PROFILE.node_of_rank[rank] for rank in placements[0].owners_of(0)} == {0, 1}
    # Each rank holds one expert a layer, and two more at most.
    assert max(after["expert_bytes_per_rank"]) <= 4 * MODEL.expert_bytes
    # Counted by hand, of 4360 + 4000 rows: in layer 0 the nodes send 2 x 50 and 2 x 1040, in layer 1 half of theirs.
    assert before["share_leaving_node"] == pytest.approx((100 + 2080 + 2000) / 8360)
    assert before["share_leaving_rank"] == pytest.approx((90 + 1050 + 1060 + 1070 + 3000) / 8360)
    assert before["imbalance_of_ranks"] == pytest.approx([4000 / 1090, 1.0])
    assert before["imbalance"] == pytest.approx((4000 + 1000) / (1090 + 1000))
    assert after["imbalance_of_ranks"][0] < 2
    assert after["share_leaving_node"] < 0.05
    assert "12.5 MB/s between nodes" in after["reason"]
    assert "100 GFLOP/s a rank (assumed)" in after["reason"]


def test_a_plan_has_a_quarter_more_by_default(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four ranks with one expert in each of 2 layers have room for half an expert: none."""
    plan = saved.with_name("plan.json")
    document = shown(capsys, "--profile", str(saved), "--plan", str(plan))
    assert document["placements"][1]["expert_bytes_per_rank"] == [2 * MODEL.expert_bytes] * 4
    assert json.loads(plan.read_text())["world_size"] == 4


def test_hot_experts_are_on_all_ranks_of_any_number(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On eight ranks instead of four, each token's rows are taken to be anywhere: an eighth of each on each rank."""
    plan = saved.with_name("plan.json")
    words = ("--world-size", "8", "--nodes", "4", "--hot-experts", "0:0", "--plan", str(plan))
    document = shown(capsys, "--profile", str(saved), *words)
    assert document["node_of_rank"] == [0, 0, 1, 1, 2, 2, 3, 3]
    first, second = read_plan(plan, num_layers=2, num_experts=4, world_size=8)
    assert first.owners_of(0) == tuple(range(8))
    assert [first.experts_of(rank) for rank in (1, 5)] == [(0, 1), (0, 1)]
    assert second.experts_of_rank == tuple((rank % 4,) for rank in range(8))
    # Of layer 0, 90 of 1090 rows still look for an owner, and each of experts 1 to 3 is on two ranks.
    assert sum(document["placements"][1]["rows_per_layer_and_rank"][0]) == pytest.approx(4360)
    assert document["placements"][1]["share_leaving_rank"] == pytest.approx((4 * 90 * 6 / 8 + 4000 * 6 / 8) / 8360)


@pytest.mark.parametrize(
    ("words", "nodes"),
    [((), (0, 0, 1, 1)), (("--nodes", "4"), (0, 1, 2, 3)), (("--world-size", "6"), (0, 0, 0, 1, 1, 1))],
)
def test_ranks_and_nodes_are_those_of_the_profile_unless_given(
    words: tuple[str, ...], nodes: tuple[int, ...], saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, "--profile", str(saved), *words)["node_of_rank"] == list(nodes)


def test_no_replica_where_reading_it_takes_longer_than_what_it_saves() -> None:
    """Steps of a row a rank and expert, an even load and a network as good as free: weights are read once, at home."""
    even = replace(PROFILE, steps=250, rows_LWE=(EVEN, EVEN))
    options = ExpertsOptions(
        profile=Path("x"), replica_memory=8 * MODEL.expert_bytes, net_bandwidth=1e12, compute_rate=1e7
    )
    plan = plan_placements(even, Topology((0, 0, 1, 1)), options)
    assert [placement.num_copies for placement in plan.placements] == [4, 4]


def test_the_text_shows_every_share_and_compares(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", "--profile", str(saved), "--hot-experts", "0:0"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "skewed: 2 layers of 4 experts, 1 a token, of 98.3 kB in a layer" in text
    assert re.search(r"^ +0 +91\.7 +3\.7 +2\.8 +1\.8 +3\.67$", text, re.MULTILINE)
    assert re.search(r"^ +1 +25\.0 +25\.0 +25\.0 +25\.0 +1\.00$", text, re.MULTILINE)
    assert re.search(r"^even split +2\.39 +3\.67 +75\.0% +50\.0% +197 kB$", text, re.MULTILINE)
    assert re.search(r"^plan +1\.\d\d ", text, re.MULTILINE)


def test_one_rank_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = LoadProfile(MODEL, 1, (0,), ((SKEWED[0],), ((0, 0, 0, 0),)))  # nor is a layer without rows in the way
    write_profile(alone, tmp_path / "load.json")
    assert main(["experts", "--profile", str(tmp_path / "load.json")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^ +1 +0\.0 +0\.0 +0\.0 +0\.0 +1\.00$", text, re.MULTILINE)
    assert "rank/mean" not in text


def test_colours_change_nothing_but_the_shade() -> None:
    """Without the codes it is the plain text but for blanks, and more rows are no darker."""
    values = [[0.0, 1, 2, 3, 4, 30], [1.0, 1, 1, 1, 1, 1]]
    plain = heat_lines(["layer", "0", "1"], values, ["busiest", "4.5", "1.0"], coloured=False)
    coloured = heat_lines(["layer", "0", "1"], values, ["busiest", "4.5", "1.0"], coloured=True)
    stripped = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in coloured]
    assert [line.split() for line in stripped] == [line.split() for line in plain]
    shades = [SHADES.index(int(shade)) for shade in re.findall(r"48;5;(\d+)", coloured[1])]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0, len(SHADES) - 1)


def test_many_experts_go_below_each_other() -> None:
    lines = heat_lines(["layer", "0"], [[1.0] * 40], ["busiest", "1.00"], coloured=False)
    assert [len(line.split()) for line in lines] == [17, 17, 17, 17, 10, 10]
    assert max(map(len, lines)) < 110
    assert lines[-2].split()[-3:] == ["38", "39", "busiest"]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_plot_is_drawn(ending: str, saved: Path) -> None:
    pytest.importorskip("matplotlib")
    file = saved.with_name(f"load.{ending}")
    words = ["experts", "--profile", str(saved), "--hot-experts", "0", "--plot", str(file)]
    assert main(words) == 0
    drawn = file.read_bytes()
    assert drawn.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    assert len(drawn) > 5000


def test_a_plot_without_matplotlib_is_refused_first(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_outputs.importlib.util, "find_spec", lambda name: None)
    assert main(["experts", "--profile", str(saved), "--plot", str(saved.with_name("a.png"))]) == 2
    out, err = capsys.readouterr()
    assert (out, "pip install 'mixtralkit[bench]'" in err) == ("", True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "say whose load: either --profile FILE, one that was saved, or -m DIR"),
        ("--profile x -m y", "say whose load"),
        ("--profile x hello", "--prompt is for a run, and nothing runs with --profile"),
        ("--profile x --nproc 2", "--nproc is for a run"),
        ("--profile x --save y", "--save is for a run"),
        ("--profile /nowhere", "the profile /nowhere cannot be read: No such file"),
        ("--profile x --hot-experts 0 --replica-memory 1GB", "use one of the two"),
        ("--profile x --hot-experts a", "--hot-experts is 'a'"),
        ("--profile x --plot x.jpg", "x.jpg: the name must end in .png or .svg or .pdf"),
        ("--profile x --plan x.txt", "x.txt: the name must end in .json"),
        ("--profile x --plan nowhere/x.json", "there is no folder nowhere"),
        ("-m x --timeout 1", "at least 5 seconds"),
        ("-m x --world-size 0", "--world-size is '0'"),
    ],
)
def test_what_is_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experts", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--world-size 5", "5 ranks cannot be shared out evenly among 2 nodes; choose --world-size and --nodes"),
        ("--world-size 1 --nodes 1 --hot-experts 0", "one rank holds every expert"),
        ("--hot-experts 4", "4"),
        ("--hot-experts 2:0", "2"),
    ],
)
def test_what_the_profile_does_not_allow(
    words: str, message: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experts", "--profile", str(saved), *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize(("flag", "name"), [("--plan", "a.json"), ("--plot", "a.svg")])
def test_what_cannot_be_written(flag: str, name: str, saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if flag == "--plot":
        pytest.importorskip("matplotlib")
    file = saved.with_name(name)
    file.mkdir()
    assert main(["experts", "--profile", str(saved), flag, str(file)]) == 2
    assert f"{file} cannot be written: Is a directory" in capsys.readouterr().err


def test_nodes_cannot_be_more_than_ranks() -> None:
    with pytest.raises(UsageError, match="4 ranks cannot be shared out evenly among 8 nodes"):
        target_topology(PROFILE, ExpertsOptions(profile=Path("x"), nodes=8))


def test_a_profile_needs_no_ranks(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["experts", "--profile", str(saved)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--profile needs no ranks; start 'mixtralkit experts' without torchrun" in err
