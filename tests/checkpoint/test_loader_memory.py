"""The peak memory of a rank is its share of the weights and a small constant, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.recipes import expected
from mixtralkit.checkpoint.writer import write_checkpoint
from mixtralkit.config import ModelConfig

# 213 MB in float32, in matrices of 4 MB; a share of half the experts is 111 MB.
CONFIG = ModelConfig(
    vocab_size=64,
    dim=512,
    num_layers=4,
    num_heads=8,
    num_kv_heads=2,
    head_dim=64,
    hidden_dim=2048,
    num_experts=4,
    top_k=2,
)
SLACK = 40  # MiB: code that is first run now, a matrix or two, and pages that the kernel maps ahead

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big")
    state = {name: torch.full(shape, 0.5) for name, shape in expected(CONFIG).items()}
    write_checkpoint(state, CONFIG, folder, Form.MISTRAL_PTH, part_bytes=40_000_000)
    return folder


def measure(folder: Path, dtype: str) -> tuple[float, float, float]:
    command = [sys.executable, "-m", "tests.checkpoint.share", str(folder), dtype]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    loaded, used, share = map(float, done.stdout.split())
    return loaded, used, share


def test_in_the_files_own_dtype_loading_takes_nothing(folder: Path) -> None:
    """Mapped pages count once they are used; the other half of the file never does."""
    loaded, used, share = measure(folder, "float32")
    assert share == pytest.approx(106, abs=1)
    assert loaded < SLACK
    assert used < share + SLACK


def test_converted_weights_leave_no_trace_of_the_file(folder: Path) -> None:
    """The share in the new dtype, and one matrix at a time in the old one."""
    loaded, used, share = measure(folder, "bfloat16")
    assert share == pytest.approx(53, abs=1)
    assert loaded < share + SLACK
    assert used < share + SLACK
