"""The way to a GPU, on one: as test_streaming.py does without. Needs no library that writes checkpoints."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.reader import Stretch
from mixtralkit.checkpoint.recipes import expected
from mixtralkit.checkpoint.split_files import FileParts
from mixtralkit.checkpoint.staging import Staging
from mixtralkit.checkpoint.uploads import CudaUploads
from mixtralkit.checkpoint.writer import write_checkpoint
from mixtralkit.config import ModelConfig
from mixtralkit.ops.quantized_weight import QuantKind

CONFIG = ModelConfig(
    vocab_size=259,
    dim=256,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    hidden_dim=512,
    num_experts=4,
    top_k=2,
)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("quant", [None, *QuantKind])
@pytest.mark.parametrize("form", [Form.MISTRAL_PTH, Form.HF_SAFETENSORS])
def test_parameters_are_those_of_the_cpu(tmp_path: Path, form: Form, quant: QuantKind | None) -> None:
    """Bit for bit: layouts, dtypes and quantization, and parts of a file that cut tensors."""
    state = {name: torch.randn(shape).mul(0.1).bfloat16() for name, shape in expected(CONFIG).items()}
    write_checkpoint(state, CONFIG, tmp_path, form, part_bytes=1_000_003 if form is Form.MISTRAL_PTH else None)
    here = load_model(tmp_path, dtype=None, device=torch.device("cpu"), quantize=quant).state_dict()
    there = load_model(tmp_path, dtype=None, device=torch.device("cuda"), quantize=quant).state_dict()
    assert list(there) == list(here)
    for name, tensor in there.items():
        assert tensor.is_cuda
        assert torch.equal(tensor.cpu().view(torch.uint8), here[name].view(torch.uint8)), name


def test_buffers_are_not_filled_before_their_copies_are_done(tmp_path: Path) -> None:
    """Small buffers, each filled hundreds of times, and a device that has other work as well."""
    content = torch.randint(256, (64 << 20,), dtype=torch.uint8)
    path = tmp_path / "weights"
    path.write_bytes(content.numpy().tobytes())
    ends = torch.randint(len(content), (20,)).sort().values.tolist()
    stretches = [Stretch(FileParts("weights", (path,)), begin, end - begin) for begin, end in pairwise([0, *ends])]
    busy = torch.randn(4096, 4096, device="cuda")
    found = []
    with Staging(CudaUploads(torch.device("cuda")), stretches, buffers=3, buffer_bytes=100_003) as all_:
        for _ in stretches:
            busy = busy @ busy / 64
            found.append(all_.take() + 0)  # computed with at once
    for tensor, stretch in zip(found, stretches, strict=True):
        assert torch.equal(tensor.cpu(), content[stretch.offset : stretch.offset + stretch.nbytes])
