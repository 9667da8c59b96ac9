"""Models of odd shapes, for us, for the oracle and for transformers."""

import dataclasses
from typing import Any

import torch

from mixtralkit.config import ModelConfig
from tests.random_model import TINY
from tests.reference.mixtral import Shape

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "three experts, two chosen": {"num_experts": 3},
    "top 1": {"top_k": 1},
    "top 3": {"top_k": 3},
    "head_dim is not dim/heads": {"head_dim": 24},
    "one KV head": {"num_kv_heads": 1},
    "a KV head a head": {"num_kv_heads": 4},
    "odd sizes": {"dim": 36, "hidden_dim": 50, "num_experts": 5, "vocab_size": 61, "head_dim": 10},
    "sliding window": {"sliding_window": 5},
    "one layer, one expert": {"num_layers": 1, "num_experts": 1, "top_k": 1},
}


def config_of(case: str) -> ModelConfig:
    """The configuration of one of `CONFIGS`; what a case does not say is TINY's, with eight experts."""
    return dataclasses.replace(TINY, **{"num_experts": 8, **CONFIGS[case]})


def shape_of(config: ModelConfig) -> Shape:
    """The oracle's view of a configuration."""
    return Shape(
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        top_k=config.top_k,
        norm_eps=config.norm_eps,
        rope_theta=config.rope_theta,
        sliding_window=config.sliding_window,
    )


def random_tokens(config: ModelConfig, length: int, seed: int = 2) -> list[int]:
    """Token ids of one request."""
    generator = torch.Generator().manual_seed(seed)
    ids: list[int] = torch.randint(config.vocab_size, (length,), generator=generator).tolist()
    return ids
