"""What runs through the model in one forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Segment:
    """The tokens of one request in a batch: `length` of them from position `start` on, cached in `slot`."""

    slot: int
    start: int
    length: int


@dataclass(frozen=True)
class Batch:
    """Tokens of several requests, one segment after the other; there may be none at all.

    `tokens_T` and `positions_T` are int64; `segments_B3` has the slot, start and length of each segment once more, as
    ops/cached_attention takes them. An empty batch still runs, so that a rank without requests takes part in
    the exchange of every layer.
    """

    tokens_T: torch.Tensor
    positions_T: torch.Tensor
    segments: tuple[Segment, ...]
    segments_B3: torch.Tensor

    @property
    def last_rows(self) -> list[int]:
        """The row of each segment's last token."""
        ends, end = [], 0
        for segment in self.segments:
            end += segment.length
            ends.append(end - 1)
        return ends


def make_batch(
    tokens: Sequence[Sequence[int]], starts: Sequence[int], slots: Sequence[int], device: torch.device
) -> Batch:
    """A batch of `tokens[i]`, the first of which is at position `starts[i]` of the request cached in `slots[i]`."""
    segments = tuple(Segment(slot, start, len(ids)) for ids, start, slot in zip(tokens, starts, slots, strict=True))
    positions = [position for s in segments for position in range(s.start, s.start + s.length)]
    return Batch(
        tokens_T=torch.tensor([token for ids in tokens for token in ids], dtype=torch.int64, device=device),
        positions_T=torch.tensor(positions, dtype=torch.int64, device=device),
        segments=segments,
        segments_B3=torch.tensor([(s.slot, s.start, s.length) for s in segments], dtype=torch.int64).view(-1, 3),
    )
