"""A batch's segments and block tables where the kernels of ops/triton/ read them: made once, for all layers."""

import torch

from mixtralkit.ops.upload import upload

ROW, START, LENGTH, BLOCKS = range(4)  # what a request's numbers are: its first row, ..., and its blocks from BLOCKS on
_ALIGNED = 4  # numbers in 16 bytes; Triton compiles a kernel once more for a pointer that is aligned otherwise


class DeviceSegments:
    """The segments of a batch on the device, and what a launch has to know of them on the host.

    `requests_BX` has the numbers of each request, `requests_T` which of them each row belongs to; both are int32 and
    parts of `packed`, whose shape depends on the number of requests, rows and blocks in the longest table: copying
    another batch's over it, all of them the same, is how a captured graph gets its next step.
    """

    def __init__(self, segments_B2: torch.Tensor, tables_BM: torch.Tensor, device: torch.device) -> None:
        """Of `segments_B2` and `tables_BM` (int64, on the host) as ops/cached_attention takes them."""
        self._segments_B2, self._tables_BM = segments_B2, tables_BM
        self._checked: tuple[int, int] | None = None
        starts, lengths = segments_B2.unbind(1)
        rows = lengths.cumsum(0)
        first_rows = rows - lengths
        requests_BX = torch.cat((first_rows[:, None], segments_B2, tables_BM), dim=1)
        requests_T = torch.repeat_interleave(lengths)
        padding = requests_T.new_zeros(-requests_BX.numel() % _ALIGNED)
        host = torch.cat((requests_BX.flatten(), padding, requests_T)).to(torch.int32)
        self.packed = upload(host, device)
        self.requests_BX = self.packed[: requests_BX.numel()].view(requests_BX.shape)
        self.requests_T = self.packed[requests_BX.numel() + padding.numel() :]
        single = lengths == 1
        self.longest_context = _largest((starts + 1)[single])
        self.longest_prompt = _largest(lengths[lengths > 1])

    def check(self, num_blocks: int, block_size: int) -> None:
        """Raise RuntimeError for a segment whose blocks are not all in its table and such a cache."""
        if self._checked == (num_blocks, block_size):
            return
        ends_B = self._segments_B2.sum(1)
        needed_B = (ends_B + block_size - 1) // block_size
        there_BM = (self._tables_BM >= 0) & (self._tables_BM < num_blocks)
        needed_BM = torch.arange(self._tables_BM.shape[1]) < needed_B[:, None]
        wrong = ((needed_BM & there_BM).sum(1) < needed_B).nonzero()
        if len(wrong):
            request = int(wrong[0])
            blocks, end = self._tables_BM[request, : needed_B[request]].tolist(), int(ends_B[request])
            raise RuntimeError(f"blocks {blocks} of {num_blocks} do not hold {end} positions, {block_size} in each")
        self._checked = num_blocks, block_size


def _largest(numbers: torch.Tensor) -> int:
    """The largest number, 0 if there is none."""
    return int(numbers.max()) if len(numbers) else 0
