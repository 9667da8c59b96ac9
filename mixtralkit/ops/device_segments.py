"""A batch's segments and block tables where the kernels of ops/triton/ read them: made once, for all layers."""

from dataclasses import dataclass

import torch

from mixtralkit.ops.upload import upload

ROW, START, LENGTH, BLOCKS = range(4)  # what a request's numbers are: its first row, ..., and its blocks from BLOCKS on
_ALIGNED = 4  # numbers in 16 bytes; Triton compiles a kernel once more for a pointer that is aligned otherwise


@dataclass
class DeviceSegments:
    """The segments of a batch on the device, and what a launch has to know of them on the host.

    `requests_BX` has the numbers of each request, `requests_T` which of them each row belongs to, both int32.
    `longest_context` is the most positions that the only token of a segment sees, `longest_prompt` the most tokens of a
    segment that has several; either may be larger than it is, and is 0 where there is no such segment. `unchecked` are
    segments and tables on the host that are still to be checked; whoever fills these tensors himself has none.
    """

    requests_BX: torch.Tensor
    requests_T: torch.Tensor
    longest_context: int
    longest_prompt: int
    unchecked: tuple[torch.Tensor, torch.Tensor] | None = None

    def check(self, num_blocks: int, block_size: int) -> None:
        """Raise RuntimeError for a segment whose blocks are not all in its table and such a cache."""
        if self.unchecked is None:
            return
        segments_B2, tables_BM = self.unchecked
        ends_B = segments_B2.sum(1)
        needed_B = (ends_B + block_size - 1) // block_size
        there_BM = (tables_BM >= 0) & (tables_BM < num_blocks)
        needed_BM = torch.arange(tables_BM.shape[1]) < needed_B[:, None]
        wrong = ((needed_BM & there_BM).sum(1) < needed_B).nonzero()
        if len(wrong):
            request = int(wrong[0])
            blocks, end = tables_BM[request, : needed_B[request]].tolist(), int(ends_B[request])
            raise RuntimeError(f"blocks {blocks} of {num_blocks} do not hold {end} positions, {block_size} in each")
        self.unchecked = None


def device_segments(segments_B2: torch.Tensor, tables_BM: torch.Tensor, device: torch.device) -> DeviceSegments:
    """Of `segments_B2` and `tables_BM` (int64, on the host) as ops/cached_attention takes them; one copy."""
    starts, lengths = segments_B2.unbind(1)
    rows = lengths.cumsum(0)
    host_BX = torch.cat(((rows - lengths)[:, None], segments_B2, tables_BM), dim=1)
    host_T = torch.repeat_interleave(lengths)
    padding = host_T.new_zeros(-host_BX.numel() % _ALIGNED)
    packed = upload(torch.cat((host_BX.flatten(), padding, host_T)).to(torch.int32), device)
    return DeviceSegments(
        requests_BX=packed[: host_BX.numel()].view(host_BX.shape),
        requests_T=packed[host_BX.numel() + padding.numel() :],
        longest_context=_largest((starts + 1)[lengths == 1]),
        longest_prompt=_largest(lengths[lengths > 1]),
        unchecked=(segments_B2, tables_BM),
    )


def _largest(numbers: torch.Tensor) -> int:
    """The largest number, 0 if there is none."""
    return int(numbers.max()) if len(numbers) else 0
