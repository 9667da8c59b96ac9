"""The parts of benchmarks/gpu and tools/gpu_check.sh that need no GPU."""

import subprocess
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import LARGE, SMALL, main, page, variants
from benchmarks.gpu.moe_layer import EXPERTS, TOP_K, loop_over_experts
from mixtralkit.ops.blocks import moe_block
from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.rms_norm import Norm
from tests.cli.test_bench import DOCUMENT

SCRIPT = Path(__file__).parents[2] / "tools" / "gpu_check.sh"


def test_what_fits_is_measured() -> None:
    assert variants(80e9, quick=False) == [SMALL, *LARGE[1:]]
    assert variants(150e9, quick=False) == [SMALL, *LARGE]
    assert variants(150e9, quick=True) == [SMALL]


def test_the_page_has_all_figures() -> None:
    text = page("A GPU", "today", [DOCUMENT, DOCUMENT], "| a layer |\n")
    assert text.startswith("# A GPU, today\n")
    assert "| a layer |" in text
    assert text.count("model   shape") == 2


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
