"""The choice of tokens from logits, where the logits are: nothing of it waits for the device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from mixtralkit.ops.triton_kernels import triton_takes

# What is in the place of a token when a row's largest logit is no finite number, and that number.
NO_TOKEN = {-1: math.nan, -2: math.inf, -3: -math.inf}


class Settings(NamedTuple):
    """How one token is chosen: as `SamplingParams` has it, with `uniform`, in [0, 1), as what chance says.

    A `temperature` of 0 takes the likeliest token, the smallest id of equal ones.
    """

    temperature: float
    min_p: float
    top_k: int
    top_p: float
    uniform: float


GREEDY = Settings(0.0, 0.0, 0, 1.0, 0.0)


def settings_of(rows: Sequence[Settings]) -> torch.Tensor:
    """The settings of rows as `sample` takes them: float64 `[B, 5]`, on the host."""
    return torch.tensor(rows, dtype=torch.float64).view(-1, len(GREEDY))


def sample(logits_BV: torch.Tensor, settings_B5: torch.Tensor) -> torch.Tensor:
    """A token for each row of `logits_BV` (float32), by its settings, int64 `[B]`; or a key of `NO_TOKEN`.

    The tokens that are kept are the best ones: those of at least `min_p` of the best one's weight, of them `top_k` (0:
    all), of them the fewest whose share reaches `top_p`. Equal logits count in the order of their ids. Their shares,
    laid out by id, say on which one `uniform` falls. Weights and their sums are float64; so engine/narrowing on the
    host chooses the same, but for the rounding of sums. A row's token depends on nothing but the row.
    """
    if triton_takes(logits_BV):
        from mixtralkit.ops.triton import sample_kernels

        return sample_kernels.sample(logits_BV, settings_B5)
    return _reference(logits_BV, settings_B5)


def _reference(logits_BV: torch.Tensor, settings_B5: torch.Tensor) -> torch.Tensor:
    """By a full sort, with torch's operators."""
    temperature, min_p, top_k, top_p, uniform = settings_B5.split(1, dim=1)
    sorted_BV, ids_BV = torch.sort(logits_BV, dim=1, descending=True, stable=True)
    best = logits_BV.amax(1, keepdim=True).double()
    weights = torch.exp((sorted_BV.double() - best) / temperature)
    rank_V = torch.arange(logits_BV.shape[1], device=logits_BV.device)
    kept = (weights >= min_p) & ((rank_V < top_k) | (top_k == 0))
    weights = weights.where(kept, 0.0)
    before = torch.nn.functional.pad(weights.cumsum(1)[:, :-1], (1, 0))
    kept &= (before < top_p * weights.sum(1, keepdim=True)) | (top_p == 1)
    sums = torch.zeros_like(weights).scatter(1, ids_BV, weights.where(kept, 0.0)).cumsum(1)
    drawn = torch.searchsorted(sums, uniform * sums[:, -1:], right=True)
    # Of equal ones the smallest id: argmax takes any.
    tokens = drawn.where(temperature > 0, ids_BV[:, :1]).squeeze(1)
    return _without_bad_rows(tokens, best.squeeze(1))


def _without_bad_rows(tokens_B: torch.Tensor, best_B: torch.Tensor) -> torch.Tensor:
    for code, value in NO_TOKEN.items():
        bad_B = best_B.isnan() if math.isnan(value) else best_B == value
        tokens_B = tokens_B.masked_fill(bad_B, code)
    return tokens_B
