"""Matrices that lie side by side in one piece of memory, seen as one tensor. checkpoint/slots puts them there."""

from collections.abc import Sequence

import torch


def joined(weights: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Matrices of as many inputs, which lie one right behind the other, as one `[sum of outputs, inputs]`.

    None where they lie otherwise. No copy; without gradients.
    """
    first, ends = weights[0], [weight.storage_offset() + weight.numel() for weight in weights]
    follow = all(weight.storage_offset() == end for weight, end in zip(weights[1:], ends, strict=False))
    if not follow or not _share(weights) or len({weight.shape[1] for weight in weights}) > 1:
        return None
    outputs = sum(weight.shape[0] for weight in weights)
    return first.detach().as_strided((outputs, first.shape[1]), (first.shape[1], 1))


def stacked(weights: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Matrices of one shape, at equal distances, as one `[number, outputs, inputs]`; None where they lie otherwise."""
    first, places = weights[0], [weight.storage_offset() for weight in weights]
    distance = places[1] - places[0] if len(places) > 1 else first.numel()
    even = places == [places[0] + n * distance for n in range(len(places))]
    if not even or distance < first.numel() or not _share(weights) or len({weight.shape for weight in weights}) > 1:
        return None
    return first.detach().as_strided((len(weights), *first.shape), (distance, first.shape[1], 1))


def expert_stacks(weights: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Of the w1, w2, w3 of each expert: w1 with w3 below it `[E, 2F, D]`, and w2 `[E, D, F]`; None as above."""
    pairs = [joined(pair) for pair in zip(weights[0::3], weights[2::3], strict=True)]
    known = [pair for pair in pairs if pair is not None]
    up_EUD, down_EDF = stacked(known) if len(known) == len(pairs) else None, stacked(weights[1::3])
    return None if up_EUD is None or down_EDF is None else (up_EUD, down_EDF)


def _share(weights: Sequence[torch.Tensor]) -> bool:
    storages = {weight.untyped_storage().data_ptr() for weight in weights}
    dtypes = {weight.dtype for weight in weights}
    return len(storages) == len(dtypes) == 1 and all(weight.is_contiguous() for weight in weights)
