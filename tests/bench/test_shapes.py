"""A shape is found by name or read from a file in either form."""

import json
from pathlib import Path

import pytest

from mixtralkit.bench.shapes import MIXTRAL_791M, SHAPES, shape_of
from mixtralkit.config import to_params_json
from mixtralkit.errors import ConfigError, UsageError
from tests.random_model import TINY


def test_names_are_found_in_any_case() -> None:
    assert {name: shape_of(name.upper()) for name in SHAPES} == SHAPES


def test_a_file_in_either_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(to_params_json(TINY)))
    assert shape_of(str(tmp_path / "a.json")) == TINY
    hugging_face = {
        "vocab_size": 32000,
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "num_local_experts": 8,
        "max_position_embeddings": 4096,
        "rope_theta": 1e6,
    }
    (tmp_path / "b.json").write_text(json.dumps(hugging_face))
    assert shape_of(str(tmp_path / "b.json")) == MIXTRAL_791M


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--config 8x8b: there is no such file, and the shapes are 791m, 8x7b, 8x22b"):
        shape_of("8x8b")
    (tmp_path / "c.json").write_text('{"dim": 3}')
    with pytest.raises(ConfigError, match=r"c\.json"):
        shape_of(str(tmp_path / "c.json"))
