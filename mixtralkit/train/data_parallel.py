"""Training on several ranks, each with its share of a batch: sums over the ranks, and means of gradients.

The ranks' values are gathered and then added in the order of the ranks, so that every rank has the same bits and
they do not depend on how the backend would reduce.
"""

from collections.abc import Iterable

import torch

from mixtralkit.dist.collectives import Collectives


def sum_over_ranks(collectives: Collectives, tensor: torch.Tensor) -> torch.Tensor:
    """The sum of all ranks' `tensor`; all ranks must call this together."""
    return collectives.all_gather(tensor).sum(dim=0)


def average_gradients(collectives: Collectives, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the ranks, in one exchange; all ranks must have the same gradients."""
    if collectives.size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    means = sum_over_ranks(collectives, flat) / collectives.size
    for gradient, mean in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
