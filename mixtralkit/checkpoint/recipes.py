"""The tables of names.py applied to a model's shape: every tensor's name and shape, and how to get ours from theirs."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mixtralkit.checkpoint.names import CANONICAL, TABLES, Naming, Stored, Transform
from mixtralkit.config import ModelConfig


@dataclass(frozen=True)
class Recipe:
    """How to get one canonical tensor: `rows` (None: all) of the tensor called `stored`, then `transform`."""

    stored: str
    rows: range | None
    transform: Transform
    head_dim: int

    def apply(self, found: torch.Tensor) -> torch.Tensor:
        """The canonical tensor from the stored rows; a copy unless nothing is to be done."""
        if self.transform is Transform.TRANSPOSED:
            return found.t().contiguous()
        if self.transform is Transform.HALVES:
            return found.view(-1, 2, self.head_dim // 2, found.shape[1]).transpose(1, 2).reshape(found.shape)
        return found

    def undo(self, canonical: torch.Tensor) -> torch.Tensor:
        """The stored rows from the canonical tensor: the inverse of `apply`."""
        if self.transform is Transform.TRANSPOSED:
            return canonical.t().contiguous()
        if self.transform is Transform.HALVES:
            pairs = canonical.reshape(-1, self.head_dim // 2, 2, canonical.shape[1])
            return pairs.transpose(1, 2).reshape(canonical.shape)
        return canonical


def dimensions(config: ModelConfig) -> dict[str, int]:
    """The sizes that the shapes of names.py are written in."""
    return {
        "V": config.vocab_size,
        "D": config.dim,
        "Q": config.num_heads * config.head_dim,
        "K": config.num_kv_heads * config.head_dim,
        "E": config.num_experts,
        "F": config.hidden_dim,
        "2*F": 2 * config.hidden_dim,
        "E*F": config.num_experts * config.hidden_dim,
    }


def expected(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every canonical name of the model and its shape, in the order in which a token meets them."""
    sizes = dimensions(config)
    return {
        template.format(layer=layer, expert=expert): tuple(sizes[letter] for letter in CANONICAL[template])
        for template, layer, expert in _places(config)
    }


def stored_shapes(config: ModelConfig, naming: Naming) -> dict[str, tuple[int, ...]]:
    """Every name in a checkpoint of that naming and its shape."""
    sizes, table = dimensions(config), TABLES[naming]
    return {
        table[template].name.format(layer=layer, expert=expert): tuple(sizes[key] for key in table[template].shape)
        for template, layer, expert in _places(config)
    }


def recipes(config: ModelConfig, naming: Naming) -> dict[str, Recipe]:
    """How to get each canonical tensor out of a checkpoint of that naming."""
    sizes, table = dimensions(config), TABLES[naming]
    return {
        template.format(layer=layer, expert=expert): Recipe(
            stored=table[template].name.format(layer=layer, expert=expert),
            rows=_rows(table[template], CANONICAL[template], sizes, expert),
            transform=table[template].transform,
            head_dim=config.head_dim,
        )
        for template, layer, expert in _places(config)
    }


def _rows(stored: Stored, shape: tuple[str, ...], sizes: dict[str, int], expert: int) -> range | None:
    if stored.block is None:
        return None
    count = sizes[shape[1] if stored.transform is Transform.TRANSPOSED else shape[0]]
    begin = expert * sizes[stored.block] + (sizes[stored.start] if stored.start else 0)
    return range(begin, begin + count)


def _places(config: ModelConfig) -> Iterator[tuple[str, int, int]]:
    """Each canonical name as (template, layer, expert): the embedding, layer after layer, the end."""
    inner = [template for template in CANONICAL if "{layer}" in template]
    first, *last = (template for template in CANONICAL if "{layer}" not in template)
    yield first, 0, 0
    for layer in range(config.num_layers):
        for template in inner:
            for expert in range(config.num_experts if "{expert}" in template else 1):
                yield template, layer, expert
    yield from ((template, 0, 0) for template in last)
