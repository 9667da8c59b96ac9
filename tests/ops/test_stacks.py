"""Matrices side by side seen as one tensor: the same elements, and never where they do not lie so."""

import torch

from mixtralkit.ops.matrices import Matrices
from mixtralkit.ops.quantize import quantize
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.ops.stacks import expert_stacks, joined, stacked


def slices(memory: torch.Tensor, *shapes: tuple[int, int]) -> list[torch.Tensor]:
    """Matrices one right behind the other."""
    sizes = [outputs * inputs for outputs, inputs in shapes]
    parts = memory[: sum(sizes)].split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def test_one_behind_the_other() -> None:
    weights = slices(torch.randn(100), (4, 8), (2, 8), (3, 8))
    found = joined(weights)
    assert found is not None
    assert torch.equal(found, torch.cat(weights))
    assert found.data_ptr() == weights[0].data_ptr()
    assert Matrices(weights).joined is not None


def test_what_lies_otherwise_is_not_joined() -> None:
    weights = slices(torch.randn(100), (4, 8), (2, 8), (3, 8))
    assert joined(weights[::-1]) is None
    assert joined([weights[0], weights[2]]) is None
    assert joined([weights[0], weights[1].clone()]) is None
    assert joined(slices(torch.randn(100), (4, 8), (4, 4))) is None
    assert Matrices([quantize(torch.randn(16, 64), QuantKind.FP8)] * 2).joined is None


def test_at_equal_distances() -> None:
    weights = slices(torch.randn(200), *[(4, 8)] * 5)
    for chosen in (weights, weights[::2], weights[1:2]):
        found = stacked(chosen)
        assert found is not None
        assert torch.equal(found, torch.stack(chosen))
    assert stacked([weights[0], weights[1], weights[3]]) is None
    assert stacked([weights[0], weights[0]]) is None
    assert stacked(weights[::-1]) is None
    assert stacked([weights[0], weights[1].T.contiguous()]) is None


def test_experts() -> None:
    """In memory w1, w3, w2 of each; in the order of the operators w1, w2, w3."""
    in_memory = slices(torch.randn(400), *[(6, 4), (6, 4), (4, 6)] * 3)
    w1, w3, w2 = in_memory[0::3], in_memory[1::3], in_memory[2::3]
    ordered = [weight for trio in zip(w1, w2, w3, strict=True) for weight in trio]
    found = expert_stacks(ordered)
    assert found is not None
    assert torch.equal(found[0], torch.stack([torch.cat(pair) for pair in zip(w1, w3, strict=True)]))
    assert torch.equal(found[1], torch.stack(w2))
    assert expert_stacks(in_memory) is None
    assert expert_stacks([weight.clone() for weight in ordered]) is None
