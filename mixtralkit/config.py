"""The shape of a model, read from Mistral's params.json or Hugging Face's config.json.

Both files are accepted in the variants found in the wild (docs/checkpoints.md lists them). A `ModelConfig`
is checked once, when it is made, and never changes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixtralkit.errors import ConfigError

MIXTRAL_ROPE_THETA = 1_000_000.0
MIXTRAL_CONTEXT = 32_768


@dataclass(frozen=True)
class ModelConfig:
    """The numbers that define a Mixtral.

    `context` is the longest prompt plus response, in tokens. `sliding_window` limits how far back a token
    attends; None means all the way.
    """

    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden_dim: int
    num_experts: int
    top_k: int
    norm_eps: float = 1e-5
    rope_theta: float = MIXTRAL_ROPE_THETA
    context: int = MIXTRAL_CONTEXT
    sliding_window: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it must be greater than 0")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"{self.num_heads} heads cannot share {self.num_kv_heads} KV heads; "
                "the number of heads must be a multiple"
            )
        if self.top_k > self.num_experts:
            raise ConfigError(f"top_k is {self.top_k} but there are only {self.num_experts} experts")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim is {self.head_dim}; rotary embeddings need an even number")

    @property
    def num_params(self) -> int:
        """How many parameters the whole model has."""
        attention = 2 * self.dim * self.head_dim * (self.num_heads + self.num_kv_heads)
        experts = self.num_experts * self.expert_params + self.dim * self.num_experts
        return self.num_layers * (attention + experts + 2 * self.dim) + 2 * self.vocab_size * self.dim + self.dim

    @property
    def expert_params(self) -> int:
        """How many parameters one expert of one layer has."""
        return 3 * self.dim * self.hidden_dim


def from_params_json(params: Mapping[str, Any]) -> ModelConfig:
    """Read Mistral's params.json; also the one of the stacked form, whose keys are like Hugging Face's."""
    if "hidden_size" in params:
        return from_config_json(params)
    moe = params.get("moe")
    if not isinstance(moe, Mapping):
        raise ConfigError("params.json has no 'moe' section: this is not a mixture-of-experts checkpoint")
    dim, num_heads = _required(params, "dim"), _required(params, "n_heads")
    return ModelConfig(
        vocab_size=_required(params, "vocab_size"),
        dim=dim,
        num_layers=_required(params, "n_layers"),
        num_heads=num_heads,
        num_kv_heads=_integer(params, "n_kv_heads", num_heads),
        head_dim=_integer(params, "head_dim", dim // max(num_heads, 1)),
        hidden_dim=_required(params, "hidden_dim"),
        num_experts=_required(moe, "num_experts"),
        top_k=_integer(moe, "num_experts_per_tok", 2),
        norm_eps=_number(params, "norm_eps", 1e-5),
        rope_theta=_number(params, "rope_theta", MIXTRAL_ROPE_THETA),
        context=_integer(params, "max_seq_len", MIXTRAL_CONTEXT),
        sliding_window=_optional_integer(params, "sliding_window"),
    )


def from_config_json(config: Mapping[str, Any]) -> ModelConfig:
    """Read Hugging Face's config.json, as transformers 4 or 5 writes it."""
    if config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise ConfigError(f"hidden_act {config['hidden_act']!r} is not supported; a Mixtral's experts use 'silu'")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(f"the rope parameters are {rope!r}; an object is needed")
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise ConfigError(
            f"rope type {rope.get('rope_type', rope.get('type'))!r} is not supported; Mixtral uses the default one"
        )
    dim, num_heads = _required(config, "hidden_size"), _required(config, "num_attention_heads")
    theta_source = rope if "rope_theta" in rope else config
    return ModelConfig(
        vocab_size=_required(config, "vocab_size"),
        dim=dim,
        num_layers=_required(config, "num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=_integer(config, "num_key_value_heads", num_heads),
        head_dim=_integer(config, "head_dim", dim // max(num_heads, 1)),
        hidden_dim=_required(config, "intermediate_size"),
        num_experts=_required(config, "num_local_experts" if "num_local_experts" in config else "num_experts"),
        top_k=_integer(config, "num_experts_per_tok", 2),
        norm_eps=_number(config, "rms_norm_eps", 1e-5),
        rope_theta=_number(theta_source, "rope_theta", MIXTRAL_ROPE_THETA),
        context=_integer(config, "max_position_embeddings", MIXTRAL_CONTEXT),
        sliding_window=_optional_integer(config, "sliding_window"),
    )


def read_config(folder: Path) -> ModelConfig:
    """Read the model's shape from params.json or, when there is none, config.json in `folder`.

    Raises `ConfigError` naming the file when neither is there or it does not describe a Mixtral.
    """
    for name, parse in (("params.json", from_params_json), ("config.json", from_config_json)):
        path = folder / name
        if path.is_file():
            return _parse_file(path, parse)
    raise ConfigError(f"{folder} has neither params.json nor config.json; one of them must say the model's shape")


def read_config_file(path: Path) -> ModelConfig:
    """Read the model's shape from the file at `path`, a params.json or config.json under whatever name.

    Raises `ConfigError` naming the file when it does not describe a Mixtral.
    """
    return _parse_file(path, from_params_json)


def to_params_json(config: ModelConfig) -> dict[str, Any]:
    """The params.json that describes `config`; `from_params_json` reads it back unchanged."""
    return {
        "dim": config.dim,
        "n_layers": config.num_layers,
        "head_dim": config.head_dim,
        "hidden_dim": config.hidden_dim,
        "n_heads": config.num_heads,
        "n_kv_heads": config.num_kv_heads,
        "norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "vocab_size": config.vocab_size,
        "max_seq_len": config.context,
        **({"sliding_window": config.sliding_window} if config.sliding_window else {}),
        "moe": {"num_experts": config.num_experts, "num_experts_per_tok": config.top_k},
    }


def _parse_file(path: Path, parse: Any) -> ModelConfig:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not an object")
    try:
        config: ModelConfig = parse(content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


def _required(source: Mapping[str, Any], key: str) -> int:
    if source.get(key) is None:
        raise ConfigError(f"{key!r} is missing")
    return _integer(source, key, 0)


def _integer(source: Mapping[str, Any], key: str, default: int) -> int:
    value = _number(source, key, default)
    if value != int(value):
        raise ConfigError(f"{key!r} is {source[key]!r}; a whole number is needed")
    return int(value)


def _optional_integer(source: Mapping[str, Any], key: str) -> int | None:
    value = source.get(key)
    return None if value in (None, "", "null", "None") else _integer(source, key, 0)


def _number(source: Mapping[str, Any], key: str, default: float) -> float:
    value = source.get(key)
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{key!r} is {value!r}; a number is needed") from error
    if isinstance(value, bool) or not math.isfinite(number):
        raise ConfigError(f"{key!r} is {value!r}; a finite number is needed")
    return number
