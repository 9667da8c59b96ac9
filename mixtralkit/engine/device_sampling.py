"""Which rows of logits are sampled where they are, and which come to the host."""

from collections.abc import Sequence

import torch

from mixtralkit.engine.running import Feed, Rows, RunningRequest
from mixtralkit.ops.sample import GREEDY, Settings, sample, settings_of
from mixtralkit.ops.triton_kernels import triton_takes
from mixtralkit.ops.upload import upload


def rows_of_feeds(logits_RV: torch.Tensor, requests: Sequence[RunningRequest], feeds: Sequence[Feed]) -> Sequence[Rows]:
    """What each request takes of the logits that its feed wants, given those of all, one feed's after the other's.

    On a GPU that is tokens for plain requests, which come to the host in one copy, and logits for the others, in
    another one. On the CPU, and where no logits are wanted, it is logits for all of them.
    """
    counts = [feed.rows for feed in feeds]
    if not len(logits_RV) or not (logits_RV.is_cuda or triton_takes(logits_RV)):
        return _copied(logits_RV, counts)
    settings = [request.settings(feed) for request, feed in zip(requests, feeds, strict=True)]
    tokens_R = _sampled(logits_RV, settings, counts)
    logits = iter(_copied_ones(logits_RV.split(counts), settings))
    tokens = tokens_R.cpu().split(counts)
    return [next(logits) if own is None else mine.tolist() for own, mine in zip(settings, tokens, strict=True)]


def _sampled(logits_RV: torch.Tensor, settings: Sequence[list[Settings] | None], counts: Sequence[int]) -> torch.Tensor:
    """The tokens of all rows, on the device; those of rows that come to the host mean nothing, and cost least."""
    rows = [row for own, count in zip(settings, counts, strict=True) for row in own or [GREEDY] * count]
    return sample(logits_RV, upload(settings_of(rows), logits_RV.device))


def _copied_ones(parts: Sequence[torch.Tensor], settings: Sequence[list[Settings] | None]) -> Sequence[torch.Tensor]:
    """The logits of those without settings, on the host."""
    ones = [part for part, own in zip(parts, settings, strict=True) if own is None]
    return _copied(torch.cat(ones), [len(part) for part in ones]) if ones else ()


def _copied(logits_RV: torch.Tensor, counts: Sequence[int]) -> Sequence[torch.Tensor]:
    parts: Sequence[torch.Tensor] = logits_RV.cpu().split(counts)
    return parts
