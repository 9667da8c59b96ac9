"""Reading a model's shape: the files of the real models, their variants in the wild, and broken ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.config import ModelConfig, from_config_json, from_params_json, read_config, to_params_json
from mixtralkit.errors import ConfigError

# As Mistral ships it with Mixtral 8x7B: no rope_theta.
PARAMS_8X7B = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
    "vocab_size": 32000,
    "moe": {"num_experts_per_tok": 2, "num_experts": 8},
}
# As Hugging Face's repository of the same model has it (transformers 4).
HF_8X7B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "vocab_size": 32000,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
}
MIXTRAL_8X7B = ModelConfig(
    vocab_size=32000,
    dim=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    hidden_dim=14336,
    num_experts=8,
    top_k=2,
)


def test_mixtral_8x7b_in_both_forms() -> None:
    assert from_params_json(PARAMS_8X7B) == MIXTRAL_8X7B
    assert from_config_json(HF_8X7B) == MIXTRAL_8X7B


def test_published_numbers_of_parameters() -> None:
    """46,702,792,704 and 140,620,634,112: the sums of the tensors' sizes in the published checkpoints."""
    large = {**PARAMS_8X7B, "dim": 6144, "n_layers": 56, "n_heads": 48, "hidden_dim": 16384}
    assert from_params_json(PARAMS_8X7B).num_params == 46_702_792_704
    assert from_params_json(large).num_params == 140_620_634_112
    assert MIXTRAL_8X7B.expert_params * 2 == 352_321_536  # bytes in bfloat16


def test_transformers_5_moves_rope_theta() -> None:
    moved = {**HF_8X7B, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "dtype": "bfloat16"}
    del moved["rope_theta"]
    assert from_config_json(moved).rope_theta == 5e5


def test_the_stacked_form_has_keys_like_hugging_face_and_strings() -> None:
    config = from_params_json({**HF_8X7B, "sliding_window": "4096"})
    assert (config.dim, config.sliding_window) == (4096, 4096)
    assert from_params_json({**HF_8X7B, "sliding_window": "None"}).sliding_window is None


def test_head_dim_and_kv_heads_follow_from_the_heads_when_absent() -> None:
    short = {key: value for key, value in PARAMS_8X7B.items() if key not in ("head_dim", "n_kv_heads")}
    config = from_params_json(short)
    assert (config.head_dim, config.num_kv_heads) == (128, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"moe": None}, "no 'moe' section"),
        ({"moe": {"num_experts_per_tok": 2}}, "'num_experts' is missing"),
        ({"dim": "wide"}, "'dim' is 'wide'; a number is needed"),
        ({"dim": 4096.5}, "'dim' is 4096.5; a whole number is needed"),
        ({"dim": [1]}, "a number is needed"),
        ({"dim": float("nan")}, "'dim' is nan; a finite number is needed"),
        ({"rope_theta": float("inf")}, "'rope_theta' is inf; a finite number is needed"),
        ({"dim": 10**400}, "'dim' is 1000"),
        ({"dim": True}, "'dim' is True"),
        ({"vocab_size": None}, "'vocab_size' is missing"),
        ({"n_layers": 0}, "num_layers is 0; it must be greater than 0"),
        ({"n_kv_heads": 5}, "32 heads cannot share 5 KV heads"),
        ({"n_heads": 0, "head_dim": None}, "num_heads is 0; it must be greater than 0"),
        ({"head_dim": 127}, "head_dim is 127; rotary embeddings need an even number"),
        ({"moe": {"num_experts": 2, "num_experts_per_tok": 3}}, "top_k is 3 but there are only 2 experts"),
    ],
)
def test_a_broken_params_json_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_params_json({**PARAMS_8X7B, **change})


def test_another_activation_is_refused() -> None:
    """It would load and write nonsense."""
    with pytest.raises(ConfigError, match="hidden_act 'gelu' is not supported.*'silu'"):
        from_config_json({**HF_8X7B, "hidden_act": "gelu"})
    assert from_config_json({**HF_8X7B, "hidden_act": "silu"}) == from_config_json(HF_8X7B)


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_other_rotary_types_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="rope type 'yarn' is not supported"):
        from_config_json({**HF_8X7B, key: {"rope_type": "yarn", "factor": 4.0}})


def test_rope_parameters_that_are_no_object_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rope parameters are \[1\]"):
        from_config_json({**HF_8X7B, "rope_parameters": [1]})


def test_a_folder_is_read_by_either_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(HF_8X7B))
    assert read_config(tmp_path) == MIXTRAL_8X7B
    (tmp_path / "params.json").write_text(json.dumps({**PARAMS_8X7B, "n_layers": 3}))
    assert read_config(tmp_path).num_layers == 3


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"a"', "[" * 100_000])
def test_a_file_that_is_no_object_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.json").write_text(text)
    with pytest.raises(ConfigError, match=r"params\.json"):
        read_config(tmp_path)


def test_bytes_that_are_no_text_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"params\.json is not valid JSON"):
        read_config(tmp_path)


def test_a_folder_without_either_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither params\.json nor config\.json"):
        read_config(tmp_path)


@given(st.data())
def test_params_json_is_read_back_unchanged(data: st.DataObject) -> None:
    sizes = st.integers(1, 1 << 20)
    kv_heads, experts = data.draw(st.integers(1, 64)), data.draw(st.integers(1, 256))
    config = ModelConfig(
        vocab_size=data.draw(sizes),
        dim=data.draw(sizes),
        num_layers=data.draw(sizes),
        num_heads=kv_heads * data.draw(st.integers(1, 8)),
        num_kv_heads=kv_heads,
        head_dim=2 * data.draw(sizes),
        hidden_dim=data.draw(sizes),
        num_experts=experts,
        top_k=data.draw(st.integers(1, experts)),
        norm_eps=data.draw(st.floats(1e-8, 1e-2)),
        rope_theta=data.draw(st.floats(1.0, 1e8)),
        context=data.draw(sizes),
        sliding_window=data.draw(st.none() | sizes),
    )
    assert from_params_json(json.loads(json.dumps(to_params_json(config)))) == config
