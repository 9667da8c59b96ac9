"""`mixtralkit bench` as it is typed, on a tiny shape, and what it writes."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mixtralkit import log
from mixtralkit.bench import case_run, machine_rates
from mixtralkit.cli import bench_outputs, bench_source
from mixtralkit.cli.bench_table import COLUMNS, csv_text, report_text
from mixtralkit.cli.main import main
from mixtralkit.config import to_params_json
from tests.cli import small_bench
from tests.cli.shell import PROGRAM, run
from tests.random_model import TINY

QUICK = ("--prefill", "16", "--batch-sizes", "1,3", "--repeats", "2")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """The file of a shape."""
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(to_params_json(TINY)))
    return str(path)


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates from small buffers: what they are does not matter here."""
    monkeypatch.setattr(machine_rates, "BUFFER", small_bench.BUFFER)
    monkeypatch.setattr(machine_rates, "SIDE", small_bench.SIDE)


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The JSON document of a run in this process."""
    assert main(["bench", *words, *QUICK, "--report", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("small_machine")
def test_random_weights_are_measured_and_compared_with_the_limit(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = bench(capsys, "--random-weights", "--config", tiny, "--dtype", "float32", "--layers", "--round-trips")
    (measured,) = document["runs"]
    cases = [(figure["phase"], figure["requests"], figure["prompt_tokens"]) for figure in measured["figures"]]
    assert cases == [("decode", 1, 32), ("decode", 3, 32), ("prefill", 1, 16)]
    for figure in measured["figures"]:
        spread = figure["milliseconds"]
        assert len(spread["each"]) == 2
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
        assert figure["tokens_per_second"] > 0
        assert figure["limit_milliseconds"] > 0
        assert figure["dispatch"] == "local"
        assert 2 <= figure["experts_touched"] <= TINY.num_experts
    first, second, _ = measured["figures"]
    assert first["experts_touched"] == TINY.top_k  # one token
    # All but the experts and the embedding, of which a step reads a row.
    shared = TINY.num_params - TINY.num_layers * TINY.num_experts * TINY.expert_params - TINY.vocab_size * TINY.dim
    keys = 2 * TINY.num_layers * TINY.num_kv_heads * TINY.head_dim * (32 + case_run.WARM_STEPS + 10.5)
    experts = TINY.num_layers * TINY.top_k * TINY.expert_params
    assert first["bytes"] == 4 * (shared + experts + keys)
    assert second["bytes"] > first["bytes"]
    kinds = {"embedding", "attention", "gate", "dispatch", "experts", "combine", "head", "rest"}
    assert [set(times["milliseconds"]) for times in measured["layers"]] == [kinds] * 3
    assert [trip["tokens_per_rank"] for trip in measured["round_trips"]][:3] == [1, 2, 4]
    assert document["model"]["num_params"] == TINY.num_params


@pytest.mark.usefixtures("small_machine")
def test_a_checkpoint_is_measured_in_its_own_dtype_and_quantized(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = bench(capsys, "-m", str(checkpoint))
    assert document["model"]["weights"] == "checkpoint"
    assert (document["runs"][0]["dtype"], document["runs"][0]["quantize"]) == ("float32", "none")
    assert document["runs"][0]["ranks"][0]["first_token_seconds"] > 0


@pytest.mark.usefixtures("small_machine")
def test_what_comes_to_the_same_dispatch_is_measured_once(
    tiny: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one rank there is nothing to move, whatever is asked for."""
    monkeypatch.setattr(log, "_noticed", set())
    words = ["--random-weights", "--config", tiny, "--round-trips", "--layers", "--report", "json"]
    assert main(["bench", *words, *QUICK, "--dispatch", "collective,auto"]) == 0
    out, err = capsys.readouterr()
    (measured,) = json.loads(out)["runs"]
    for results, number in (("figures", 3), ("layers", 3), ("round_trips", 9)):
        assert [result["dispatch"] for result in measured[results]] == ["local"] * number
    assert "--dispatch collective is local on 1 rank\n" in err
    assert err.count("--dispatch collective and auto are both local on 1 rank: measured once") == 1


def test_several_world_sizes_are_measured_in_processes_of_their_own(
    tiny: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each by the real command line, with a dispatch of each kind; and all kinds of output."""
    outputs = [tmp_path / name for name in ("r.json", "r.csv", "r.txt")]
    words = ["--random-weights", "--config", tiny, "--world-sizes", "1,2", "--prefill", "8", "--batch-sizes", "3"]
    assert main(["bench", *words, "--repeats", "1", *(f"--output={file}" for file in outputs)]) == 0
    out, err = capfd.readouterr()
    document = json.loads(outputs[0].read_text())
    assert [measured["world_size"] for measured in document["runs"]] == [1, 2]
    assert [len(measured["ranks"]) for measured in document["runs"]] == [1, 2]
    assert document["runs"][0]["figures"][0]["dispatch"] == "local"
    assert document["runs"][1]["figures"][0]["dispatch"] != "local"
    assert outputs[2].read_text() == out == report_text(document) + "\n"
    assert outputs[1].read_text() == csv_text(document)
    assert err.count("decode, 3 requests: ") == 2


def test_torchrun_starts_the_tool(tiny: str) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = ["--random-weights", "--config", tiny, "--prefill=8", "--batch-sizes=1", "--repeats=1", "--report=json"]
    done = run([PROGRAM[0], *command, small_bench.__file__, *words, "--dispatch=collective,all_gather"])
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["runs"][0]["figures"]
    assert [figure["dispatch"] for figure in figures] == ["collective"] * 2 + ["all_gather"] * 2


DOCUMENT: dict[str, Any] = {
    "model": {"name": "shape", "weights": "random", "num_params": 2e9, "num_active_params": 1e9},
    "runs": [
        {
            "world_size": 2,
            "threads": 1,
            "dtype": "bfloat16",
            "quantize": "int8",
            "device": "processor, old",
            "torch": "2",
            "rates": {
                name: {"median": 3e10, "min": 2e10, "max": 4e10} for name in ("read", "float32", "bfloat16", "int8")
            },
            "ranks": [
                {"load_seconds": 1.0, "first_token_seconds": None, "peak_private_bytes": 1000},
                {"load_seconds": 2.0, "first_token_seconds": 0.25, "peak_private_bytes": 2_000_000},
            ],
            "figures": [
                {
                    "phase": "decode",
                    "requests": 8,
                    "prompt_tokens": 32,
                    "dispatch": "peer",
                    "milliseconds": {"median": 50.0, "min": 49.0, "max": 51.5},
                    "tokens_per_second": 160.0,
                    "limit_milliseconds": 40.0,
                    "bound": "memory",
                    "percent_of_limit": {"median": 80.0, "min": 78.0, "max": 82.0},
                }
            ],
            "layers": [
                {
                    "phase": "decode",
                    "requests": 8,
                    "prompt_tokens": 32,
                    "dispatch": "peer",
                    "milliseconds": {"attention": 15.0, "rest": 45.0},
                }
            ],
            "round_trips": [
                {
                    "dispatch": "peer",
                    "tokens_per_rank": 4,
                    "microseconds": {"median": 12.34, "min": 11.0, "max": 20.0},
                    "bytes_sent": 4096,
                }
            ],
        }
    ],
}


def test_the_report_for_people() -> None:
    model, run_line, rates, load, memory, _, _, figure, _, _, _, attention, *_, trip = report_text(
        DOCUMENT
    ).splitlines()
    assert model == "model   shape, random weights, 2,000 M parameters, 1,000 M of them for a token"
    assert run_line == "run     2 ranks of 1 thread, int8, on processor, old, torch 2"
    assert rates.startswith("        reads 30 (20 to 40) GB/s; multiplies, in GFLOP/s, 30 (20 to 40) in float32, 30 ")
    assert load == "        loaded in 2.0 s; first token 250 ms after the start, importing torch left out"
    assert memory == "        peak private memory of a rank 2 MB"
    assert " ".join(figure.split()) == "2 int8 peer decode, 8 requests 50.00 49.00 51.50 160 40.00 80 % memory"
    assert attention.split() == ["attention", "15.00", "25%"]
    assert trip.split() == ["peer", "4", "12.3", "11.0", "20.0", "4,096"]


def test_the_csv_has_a_line_a_figure() -> None:
    """Read back by Python's reader: a comma in a name does no harm."""
    (row,) = csv.DictReader(io.StringIO(csv_text(DOCUMENT)))
    assert tuple(row) == COLUMNS
    assert (row["device"], row["world_size"], row["phase"]) == ("processor, old", "2", "decode")
    assert (row["milliseconds"], row["milliseconds_max"], row["percent_of_limit"]) == ("50.0", "51.5", "80.0")


def test_a_plot_without_matplotlib_is_refused_before_measuring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_outputs.importlib.util, "find_spec", lambda name: None)
    assert main(["bench", "--random-weights", "--plot", str(tmp_path / "a.png")]) == 2
    assert "pip install 'mixtralkit[bench]'" in capsys.readouterr().err


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from mixtralkit.cli.bench_plot import plot

    plot({**DOCUMENT, "date": "2000-01-01"}, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert drawn.startswith("<?xml")
    assert len(drawn) > 5000


def test_a_prompt_beyond_the_context_is_refused_before_anything_is_loaded(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_source, "open_subject", None)
    assert main(["bench", "--random-weights", "--config", tiny, "--prefill", "8,65"]) == 2
    assert "--prefill 65 is beyond the model's context of 64 tokens; give fewer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "say what to measure: either -m DIR, a checkpoint, or --random-weights"),
        ("-m x --random-weights", "say what to measure"),
        ("-m x --config 8x7b", "--config is the shape of --random-weights"),
        ("--random-weights --config 8x8b", "--config 8x8b: there is no such file"),
        ("--random-weights --batch-sizes 1,0", "--batch-sizes is '1,0'; a whole number of at least 1 is needed"),
        ("--random-weights --batch-sizes 1,1", "each value may be given once"),
        ("--random-weights --dispatch local,peeer", "choose one of"),
        ("--random-weights --world-sizes 1,2 --nproc 2", "use one of the two"),
        ("--random-weights --output x.doc", "the name must end in .json or .csv or .txt"),
        ("--random-weights --output nowhere/x.csv", "there is no folder nowhere"),
        ("--random-weights --plot x.jpg", "the name must end in .png or .svg or .pdf"),
        ("--random-weights --timeout 1", "at least 5 seconds"),
        ("--random-weights --moe-backend fmoe", "choose one of mixtralkit, fastmoe"),
        ("--random-weights --moe-backend fastmoe --dispatch local", "--dispatch is about mixtralkit's own dispatches"),
        ("--random-weights --moe-backend fastmoe --layers", "--layers is about mixtralkit's own dispatches"),
        ("--random-weights --moe-backend fastmoe --device cpu", "kernels are for GPUs, and this run is on cpu"),
        ("--random-weights --moe-backend fastmoe --quantize int8", "FastMoE has no quantized weights"),
    ],
)
def test_what_is_refused(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words.split()]) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
