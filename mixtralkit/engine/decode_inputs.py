"""What a recorded step reads: one token of each request, in tensors that stay where they are."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mixtralkit.model.batch import Batch
from mixtralkit.ops.device_segments import BLOCKS, LENGTH, ROW, START, DeviceSegments

TOKEN = -1  # the last number of a request; those before it are as ops/device_segments has them


@dataclass(frozen=True)
class NextToken:
    """One request's `token` at `position`, in the blocks of its `table` (`array("q")`)."""

    token: int
    position: int
    table: "array[int]"


class DecodeInputs:
    """Room for `requests` requests of up to `context` positions, on `device`."""

    def __init__(self, requests: int, context: int, block_size: int, device: torch.device) -> None:
        self._block_size = block_size
        self._context = context
        width = BLOCKS + -(-context // block_size) + 1
        host_BX = torch.zeros(requests, width, dtype=torch.int32)
        self._host_BX = host_BX.pin_memory() if device.type == "cuda" else host_BX
        self._numbers_BX: npt.NDArray[np.int32] = self._host_BX.numpy()
        self._numbers_BX[:, ROW] = range(requests)
        self._numbers_BX[:, LENGTH] = 1
        self._device_BX = self._host_BX.to(device)
        self._requests_T = torch.arange(requests, dtype=torch.int32, device=device)
        self._copied = torch.cuda.Event() if device.type == "cuda" else None

    def fill(self, tokens: Sequence[NextToken]) -> None:
        """Put these in, and copies of the last one into the room that is left. There must be one at least.

        A copy writes what the last one writes, to the same place, and meets the experts that it meets: nothing is read
        that was not read before. Raises RuntimeError for a position whose block is not in the table.
        """
        if self._copied is not None:
            self._copied.synchronize()  # the last step's numbers have been read from this memory
        numbers_BX = self._numbers_BX
        for row, each in enumerate(tokens):
            used = each.position // self._block_size + 1
            if used > len(each.table) or each.position >= self._context:
                raise RuntimeError(f"{len(each.table)} blocks of {self._block_size} do not hold {each.position + 1}")
            numbers_BX[row, START] = each.position
            numbers_BX[row, BLOCKS : BLOCKS + used] = np.frombuffer(each.table, dtype=np.int64, count=used)
            numbers_BX[row, TOKEN] = each.token
        numbers_BX[len(tokens) :, START:] = numbers_BX[len(tokens) - 1, START:]
        self._device_BX.copy_(self._host_BX, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def batch(self) -> Batch:
        """The batch of what was put in, computed on the device from it alone."""
        requests = len(self._requests_T)
        return Batch(
            tokens_T=self._device_BX[:, TOKEN].long(),
            positions_T=self._device_BX[:, START].long(),
            segments=(),
            segments_B2=torch.empty(0, 2, dtype=torch.int64),
            tables_BM=torch.empty(0, 0, dtype=torch.int64),
            logit_rows=tuple(range(requests)),
            on_device=DeviceSegments(self._device_BX, self._requests_T, self._context, longest_prompt=0),
        )
