"""What params.json says of a quantized checkpoint, and that files which do not agree with it are named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mixtralkit.checkpoint.convert import convert
from mixtralkit.checkpoint.formats import Form, detect, digest
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.verify import verify
from mixtralkit.errors import CheckpointError, ConfigError
from mixtralkit.ops.quantized_weight import QuantKind
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint

EVEN = replace(TINY, dim=64, hidden_dim=64, head_dim=16)
FILE = "quantized.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "original", Kind.MISTRAL_PTH, EVEN)
    convert(tmp_path / "original", tmp_path / "int8", QuantKind.INT8)
    return tmp_path / "int8"


def change_params(folder: Path, **values: Any) -> None:
    path = folder / "params.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_quantized_folder_is_recognised(folder: Path) -> None:
    found = detect(folder)
    assert (found.form, found.quantization, found.config) == (Form.QUANTIZED_SAFETENSORS, QuantKind.INT8, EVEN)
    assert verify(folder) == []


@pytest.mark.parametrize(
    "section", [{"kind": "int3", "group": 64, "layout": 1}, {"kind": "int8", "group": 64, "layout": 2}, "int8", 5]
)
def test_a_section_of_another_version_is_refused(folder: Path, section: object) -> None:
    change_params(folder, quantization=section)
    with pytest.raises(ConfigError, match=r'this version reads \{"kind": "int8", "group": 64, "layout": 1\} or'):
        detect(folder)


def test_files_and_section_go_together(folder: Path) -> None:
    params = (folder / "params.json").read_text()
    change_params(folder, quantization=None)
    with pytest.raises(CheckpointError, match="has no 'quantization' section, which quantized .safetensors files need"):
        detect(folder)
    (folder.parent / "original" / "params.json").write_text(params)
    with pytest.raises(CheckpointError, match="quantized to int8, but the files are Mistral .pth"):
        detect(folder.parent / "original")


def test_the_other_kind_is_seen_in_the_shapes(folder: Path) -> None:
    """And in another digest, though the files are the same, so ranks do not mix them up."""
    before = digest(detect(folder))
    change_params(folder, quantization={"kind": "int4", "group": 64, "layout": 1})
    assert digest(detect(folder)) != before
    with pytest.raises(CheckpointError, match=r"33 missing: .*wq.mins.* 33 of another shape: .*wq.codes"):
        load_model(folder, dtype=None, device=torch.device("cpu"))


def test_fp8_is_read_by_other_programs(tmp_path: Path) -> None:
    """The library has the codes' dtype, and a weight is a code times its output's scale."""
    make_checkpoint(tmp_path / "original", Kind.MISTRAL_PTH, EVEN)
    convert(tmp_path / "original", tmp_path / "fp8", QuantKind.FP8)
    state, name = load_file(tmp_path / "fp8" / FILE), "layers.1.attention.wk"
    assert json.loads((tmp_path / "fp8/params.json").read_text())["quantization"] == {"kind": "fp8", "layout": 1}
    assert (state[f"{name}.codes"].dtype, state[f"{name}.scales"].dtype) == (torch.float8_e4m3fn, torch.float32)
    wide = load_model(tmp_path / "original", dtype=None, device=torch.device("cpu")).state_dict()[f"{name}.weight"]
    made = state[f"{name}.codes"].double() * state[f"{name}.scales"].double()[:, None]
    assert ((made - wide.double()).abs() <= wide.double().abs().amax(1, keepdim=True) / 28).all()  # half of 32 of 448
    change_params(tmp_path / "fp8", quantization={"kind": "int8", "group": 64, "layout": 1})
    with pytest.raises(CheckpointError, match="of another shape: .*wq.codes"):
        load_model(tmp_path / "fp8", dtype=None, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [
        ("output.codes", torch.int8, r"1 of another dtype: output.codes \(torch.int8\)"),
        ("output.scales", torch.bfloat16, r"1 of another dtype: output.scales \(torch.bfloat16\)"),
        ("norm.weight", torch.int8, r"1 not floating-point: norm.weight"),
    ],
)
def test_wrong_dtypes_are_named(folder: Path, name: str, dtype: torch.dtype, message: str) -> None:
    state = load_file(folder / FILE)
    save_file({**state, name: state[name].to(dtype)}, folder / FILE)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder, dtype=None, device=torch.device("cpu"))


def test_a_scale_that_is_not_finite_is_found_by_verify(folder: Path) -> None:
    state = load_file(folder / FILE)
    state["output.scales"][0, 0] = torch.nan
    save_file(state, folder / FILE)
    assert [str(problem) for problem in verify(folder) if "1 NaN or infinite" in str(problem)]
