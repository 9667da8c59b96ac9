"""The parts of benchmarks/gpu and tools/gpu_check.sh that need no GPU."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import grouped_experts, transformers_steps
from benchmarks.gpu.__main__ import SECTIONS, main, sections, write
from benchmarks.gpu.fastmoe_layer import fastmoe_layer
from benchmarks.gpu.fastmoe_layer import main as measure_fastmoe
from benchmarks.gpu.loading import measured
from benchmarks.gpu.moe_layer import EXPERTS, TOP_K, loop_over_experts, side_by_side
from benchmarks.gpu.section import Section, Told, run
from benchmarks.gpu.throughput import MOST_SEATS, build, seats_for
from benchmarks.gpu.throughput import run as run_throughput
from mixtralkit.bench.shapes import SHAPES
from mixtralkit.ops import library
from mixtralkit.ops.blocks import moe_block
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.rms_norm import Norm
from tests.moe.fastmoe_stand_in import installed
from tests.random_model import TINY

SCRIPT = Path(__file__).parents[2] / "tools" / "gpu_check.sh"


def test_all_tests_that_need_a_gpu_are_run_where_there_is_one() -> None:
    """By the script that anyone with a GPU runs first, one by one or with their folder."""
    root, script = SCRIPT.parents[1], SCRIPT.read_text()
    needing = re.compile(r"skipif\(not torch\.cuda\.is_available\(\)")
    files = [path.relative_to(root) for path in root.glob("tests/**/test_*.py") if needing.search(path.read_text())]
    assert files
    assert [str(path) for path in files if f"{path} " not in script and f"{path.parent} " not in script] == []


def test_what_fits_is_measured() -> None:
    """8x7B in bfloat16 takes 93 GB."""

    def titles(memory: float, *, quick: bool = False, only: tuple[str, ...] = ()) -> list[str]:
        return [section.title for section in sections(memory, quick=quick, only=only)]

    assert titles(150e9) == [section.title for section in SECTIONS]
    assert set(titles(150e9)) - set(titles(80e9)) == {"Steps of 8x7b, bfloat16"}
    assert titles(150e9, quick=True) == [
        "A mixture of experts",
        "Experts over many rows",
        "Steps of 791m, bfloat16",
    ]
    assert titles(80e9, only=("throughput",)) == ["Throughput of 8x7b, fp8"]


def test_the_dense_product_has_as_many_operations_and_experts_lie_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without a GPU: times are stood in for, and the calls made once."""
    monkeypatch.setattr("benchmarks.gpu.moe_layer.DIM", 32)
    monkeypatch.setattr("benchmarks.gpu.moe_layer.HIDDEN", 48)
    monkeypatch.setattr(grouped_experts, "DIM", 32)
    monkeypatch.setattr(grouped_experts, "milliseconds", lambda call: float(call() is None) + 1)
    weights = side_by_side(torch.randn(EXPERTS, 3, 32 * 48).bfloat16())
    assert weights.expert_stacks is not None
    with torch.no_grad():
        line = grouped_experts.measured(torch.device("cpu"), 16, weights, with_grouped=True)
    assert line == {"rows": 16, "tiles": 1.0, "grouped_mm": 1.0, "dense": 2.0}
    assert grouped_experts.table([line]).splitlines()[2] == "| 16 | 1.000 | 1.000 | 2.000 | 200% | 200% |"


def test_every_section_is_a_module() -> None:
    for section in SECTIONS:
        assert (SCRIPT.parents[1] / section.module.replace(".", "/")).with_suffix(".py").is_file()


def test_a_section_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it told is kept where it did not fail; the others' figures are written all the same."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(SCRIPT.parents[1]))
    (tmp_path / "good.py").write_text("from benchmarks.gpu.section import tell; tell('a table', [1])")
    (tmp_path / "bad.py").write_text("print('so far'); raise SystemExit(3)")
    (tmp_path / "slow.py").write_text("import time; time.sleep(60)")
    parts = [(section, run(section)) for section in (Section("A", "good"), Section("B", "bad"))]
    slow = run(Section("C", "slow", limit=0.5))
    assert run(Section("D", "none", limit=-1)) == Told("Not measured: the time was over.\n")
    assert [told.failed for _, told in parts] == [False, True]
    assert "status 3" in parts[1][1].markdown
    assert "so far" in parts[1][1].markdown
    assert slow == Told("Took longer than 0 s.\n", failed=True)
    file = write(tmp_path / "results", "A GPU", "a command", parts)
    assert "`a command`" in file.read_text()
    assert "## A\n\na table" in file.read_text()
    assert json.loads(file.with_suffix(".json").read_text()) == {"A": [1], "B": None}


def test_seats_are_as_many_as_there_is_room_for() -> None:
    assert seats_for(1e8, 1000, 850) == 100
    assert seats_for(1e12, 1000, 850) == MOST_SEATS
    assert seats_for(1e5, 1000, 850) == 1


def test_throughput_counts_all_tokens() -> None:
    """On the CPU, with the demo's tokenizer: every request gets what it asked for."""
    model = build(replace(TINY, vocab_size=512), "none", torch.device("cpu"))
    seconds, decoding = run_throughput(model, seats=2, prompt=3, output=4)
    assert 0 < decoding < seconds


@torch.inference_mode()
def test_steps_beside_transformers_run(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both loops, on a model of no size; what they time is not looked at here."""
    monkeypatch.setattr(transformers_steps, "STEPS", 1)
    monkeypatch.setattr(transformers_steps, "WARM", 1)
    monkeypatch.setattr(library, "ops_if_available", lambda: None)
    config = replace(TINY, num_layers=1, head_dim=16, context=256)
    assert transformers_steps.ours(config, 2, kernels) > 0
    assert transformers_steps.transformers(config, 2, kernels, "eager", compiled=False) > 0


@torch.inference_mode()
def test_what_the_layer_is_compared_with_computes_the_same() -> None:
    """Otherwise the ratio says nothing. Float32; the two add up in different orders."""
    dim, hidden = 64, 128
    weights = [
        torch.randn(shape) / 8 for _ in range(EXPERTS) for shape in ((hidden, dim), (dim, hidden), (hidden, dim))
    ]
    x_TD, gate_ED, norm = torch.randn(9, dim), torch.randn(EXPERTS, dim), Norm(torch.rand(dim), 1e-5)
    found = moe_block(x_TD, norm, gate_ED, TOP_K, Matrices(weights))
    if found is None:
        pytest.skip("no kernels")
    torch.testing.assert_close(found[0], loop_over_experts(x_TD, norm, gate_ED, weights), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_fastmoes_layer_computes_the_same() -> None:
    """With what stands in for FastMoE, which needs a GPU to be built."""
    dim, hidden = 64, 128
    weights = [
        torch.randn(shape) / 8 for _ in range(EXPERTS) for shape in ((hidden, dim), (dim, hidden), (hidden, dim))
    ]
    x_TD, gate_ED, norm = torch.randn(9, dim), torch.randn(EXPERTS, dim), Norm(torch.rand(dim), 1e-5)
    with installed():
        found = fastmoe_layer(weights, gate_ED, TOP_K)(x_TD, norm)
    torch.testing.assert_close(found, loop_over_experts(x_TD, norm, gate_ED, weights), atol=1e-4, rtol=1e-4)


def test_without_fastmoe_its_section_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    measure_fastmoe()
    assert "FastMoE is not installed here" in json.loads(capsys.readouterr().out)["markdown"]


def test_reading_is_measured_without_a_gpu(tmp_path: Path) -> None:
    """All ways get through the file, which is removed; the figures say nothing at this size."""
    found = measured(torch.device("cpu"), TINY, tmp_path)
    assert list(found) == ["pread, one thread", "the loader's reading"]
    assert all(rates.cached > 0 and rates.disk > 0 for rates in found.values())
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_both_say_so() -> None:
    with pytest.raises(SystemExit, match="no GPU"):
        main([])
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no torch that sees a GPU" in done.stderr


def test_the_script_tells_its_options() -> None:
    done = subprocess.run(["bash", str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "--quick" in done.stdout
    wrong = subprocess.run(["bash", str(SCRIPT), "--quik"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "--quik is no option" in wrong.stderr


def test_the_shapes_are_there() -> None:
    assert {"791m", "8x7b"} <= set(SHAPES)
