"""What runs through the model in one forward pass."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from mixtralkit.ops.device_segments import DeviceSegments, device_segments
from mixtralkit.ops.triton_kernels import triton_takes
from mixtralkit.ops.upload import upload

NO_BLOCK = -1


@dataclass(frozen=True)
class Segment:
    """The tokens of one request in a batch: `length` of them from position `start` on."""

    start: int
    length: int


@dataclass(frozen=True)
class Batch:
    """Tokens of several requests, one segment after the other; there may be none at all.

    `tokens_T` and `positions_T` are int64. `segments_B2` and `tables_BM` (int64, on the host) have the start and length
    of each segment once more and the blocks of its request, as ops/cached_attention takes them. `logit_rows` are the
    rows after which logits are wanted. `on_device` has segments and tables for the kernels of ops/triton/, None where
    they are not called. An empty batch still runs, so that a rank without requests takes part in the exchange of every
    layer.
    """

    tokens_T: torch.Tensor
    positions_T: torch.Tensor
    segments: tuple[Segment, ...]
    segments_B2: torch.Tensor
    tables_BM: torch.Tensor
    logit_rows: tuple[int, ...]
    on_device: DeviceSegments | None = None


def make_batch(
    tokens: Sequence[Sequence[int]],
    starts: Sequence[int],
    tables: Sequence[Sequence[int]],
    device: torch.device,
    logit_rows: Sequence[int] | None = None,
) -> Batch:
    """A batch of `tokens[i]`, the first of which is at position `starts[i]` of the request with the blocks `tables[i]`.

    Block j of a request has its positions from j * block size on. A table may have more blocks than the segment needs;
    tables that are `array("q")` cost least. `logit_rows` defaults to the last row of each segment.
    """
    segments = tuple(Segment(start, len(ids)) for ids, start, _ in zip(tokens, starts, tables, strict=True))
    positions = [position for s in segments for position in range(s.start, s.start + s.length)]
    last_rows = tuple(end - 1 for end in accumulate(segment.length for segment in segments))
    tokens_T = upload(torch.tensor([token for ids in tokens for token in ids], dtype=torch.int64), device)
    segments_B2 = torch.tensor([(s.start, s.length) for s in segments], dtype=torch.int64).view(-1, 2)
    tables_BM = _padded(tables)
    return Batch(
        tokens_T=tokens_T,
        positions_T=upload(torch.tensor(positions, dtype=torch.int64), device),
        segments=segments,
        segments_B2=segments_B2,
        tables_BM=tables_BM,
        logit_rows=last_rows if logit_rows is None else tuple(logit_rows),
        on_device=device_segments(segments_B2, tables_BM, device) if triton_takes(tokens_T) else None,
    )


def _padded(tables: Sequence[Sequence[int]]) -> torch.Tensor:
    """`[B, M]`, int64; short tables are filled up with `NO_BLOCK`."""
    longest = max(map(len, tables), default=0)
    cells = array("q")
    for table in tables:
        cells.extend(table)
        cells.extend(array("q", (NO_BLOCK,)) * (longest - len(table)))
    if not cells:
        return torch.empty(len(tables), 0, dtype=torch.int64)
    return torch.frombuffer(cells, dtype=torch.int64).view(len(tables), longest)
