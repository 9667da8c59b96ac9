"""The shapes of models that can be measured without a checkpoint, by name or from a file."""

from collections.abc import Mapping
from pathlib import Path

from mixtralkit.config import ModelConfig, read_config_file
from mixtralkit.errors import UsageError

# 791 M parameters, 230 M of them active: large enough not to fit into caches, small enough for any machine.
MIXTRAL_791M = ModelConfig(
    vocab_size=32_000,
    dim=1024,
    num_layers=8,
    num_heads=16,
    num_kv_heads=4,
    head_dim=64,
    hidden_dim=3584,
    num_experts=8,
    top_k=2,
    context=4096,
)
MIXTRAL_8X7B = ModelConfig(
    vocab_size=32_000,
    dim=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    hidden_dim=14_336,
    num_experts=8,
    top_k=2,
    context=32_768,
)
MIXTRAL_8X22B = ModelConfig(
    vocab_size=32_768,
    dim=6144,
    num_layers=56,
    num_heads=48,
    num_kv_heads=8,
    head_dim=128,
    hidden_dim=16_384,
    num_experts=8,
    top_k=2,
    context=65_536,
)
SHAPES: Mapping[str, ModelConfig] = {"791m": MIXTRAL_791M, "8x7b": MIXTRAL_8X7B, "8x22b": MIXTRAL_8X22B}


def shape_of(name: str) -> ModelConfig:
    """The shape called `name`, or that of the params.json or config.json file at that path.

    Raises `UsageError` for what is neither, and `ConfigError` for a file that does not describe a Mixtral.
    """
    if name.lower() in SHAPES:
        return SHAPES[name.lower()]
    if not Path(name).is_file():
        raise UsageError(f"--config {name}: there is no such file, and the shapes are {', '.join(SHAPES)}")
    return read_config_file(Path(name))
