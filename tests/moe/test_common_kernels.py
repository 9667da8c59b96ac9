"""Ranks whose processors differ compute alike."""

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.common_kernels import use_common_kernels
from mixtralkit.ops import library
from mixtralkit.ops.linear import linear
from tests.ranks import run_ranks


@pytest.mark.skipif(library.why_not() is not None, reason=f"no native kernels: {library.why_not()}")
@pytest.mark.parametrize("lowest", ["torch", "portable"])
def test_all_ranks_take_the_best_that_all_have(lowest: str) -> None:
    """One rank stands for a host with an older processor, or without a compiler; then a product has the same bits."""
    seen = run_ranks(3, _products, lowest)
    assert [variant for variant, _ in seen] == [lowest] * 3
    assert all(torch.equal(found, seen[0][1]) for _, found in seen)


def _products(collectives: Collectives, lowest: str) -> tuple[str, torch.Tensor]:
    if collectives.rank == 1:
        library.use_variant(lowest)
    use_common_kernels(collectives)
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(3, 64, generator=generator), torch.randn(5, 64, generator=generator).bfloat16()
    return library.variant(), linear(x, weight)
