"""What is written, read back by the libraries of each format."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralForCausalLM

from mixtralkit.checkpoint.formats import Form, detect
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.verify import verify
from mixtralkit.checkpoint.writer import NAMINGS, split_file, write_checkpoint
from mixtralkit.errors import CheckpointError
from tests.checkpoint.make_checkpoints import TINY, mistral_state, reference_model, stacked_state

CONFIG = dataclasses.replace(TINY, head_dim=6, num_experts=3, sliding_window=9, rope_theta=5e5, context=77)


@pytest.fixture(scope="module")
def reference() -> MixtralForCausalLM:
    return reference_model(CONFIG)


@pytest.mark.parametrize("form", NAMINGS)
def test_written_and_loaded_again(tmp_path: Path, form: Form, reference: MixtralForCausalLM) -> None:
    state = mistral_state(reference, CONFIG)
    path = write_checkpoint(state, CONFIG, tmp_path, form)
    assert verify(tmp_path) == []
    found = detect(tmp_path)
    assert (found.form, found.config, found.files[0].path) == (form, CONFIG, path)
    loaded = load_model(tmp_path, dtype=None, device=torch.device("cpu")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_mistral_files_hold_the_state(tmp_path: Path, reference: MixtralForCausalLM) -> None:
    state = mistral_state(reference, CONFIG)
    write_checkpoint(state, CONFIG, tmp_path, Form.MISTRAL_PTH, dtype=torch.bfloat16)
    write_checkpoint(state, CONFIG, tmp_path, Form.MISTRAL_SAFETENSORS, dtype=torch.bfloat16)
    write_checkpoint(state, CONFIG, tmp_path, Form.STACKED_PT)
    halved = {name: tensor.bfloat16() for name, tensor in state.items()}
    _assert_equal(torch.load(tmp_path / "consolidated.00.pth", weights_only=True), halved)
    _assert_equal(load_file(tmp_path / "consolidated.safetensors"), halved)
    _assert_equal(torch.load(tmp_path / "consolidated.00.pt", weights_only=True), stacked_state(state, CONFIG))


def _assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_transformers_reads_the_hugging_face_form(tmp_path: Path, reference: MixtralForCausalLM) -> None:
    """Equal logits, so names, layout and config.json are right."""
    write_checkpoint(mistral_state(reference, CONFIG), CONFIG, tmp_path, Form.HF_SAFETENSORS)
    theirs = MixtralForCausalLM.from_pretrained(
        tmp_path, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32
    ).eval()
    tokens_BT = torch.randint(0, CONFIG.vocab_size, (2, 12))
    with torch.no_grad():
        assert torch.equal(theirs(tokens_BT).logits, reference(tokens_BT).logits)


def test_parts_joined_are_the_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5
    for size, count in ((100, 13), (1280, 1), (640, 2), (5000, 1)):
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        parts = split_file(path, size)
        assert [part.name for part in parts] == [f"x.pth-split{number}" for number in range(count)]
        assert b"".join(part.read_bytes() for part in parts) == content
        assert all(part.stat().st_size == size for part in parts[:-1])
        assert not path.exists()


def test_parts_of_a_larger_file_do_not_stay(tmp_path: Path) -> None:
    """They would be joined to the new ones; a file whose name only begins alike is left alone."""
    path, other = tmp_path / "whole", tmp_path / "whole2-split3"
    other.write_bytes(b"other")
    for size in (10, 4):
        path.write_bytes(b"x" * size)
        split_file(path, 2)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["whole-split0", "whole-split1", "whole2-split3"]


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, reference: MixtralForCausalLM) -> None:
    state = mistral_state(reference, CONFIG)
    state["extra"] = state.pop("norm.weight")
    with pytest.raises(CheckpointError, match=r"do not fit the configuration: extra, norm.weight"):
        write_checkpoint(state, CONFIG, tmp_path, Form.MISTRAL_PTH)
