"""Where a tensor lies in a checkpoint's files, known without reading it."""

import math
from dataclasses import dataclass

import torch

from mixtralkit.checkpoint.split_files import FileParts


@dataclass(frozen=True)
class TensorInfo:
    """`offset` is in bytes from the start of `file`; `stride` is in elements, as torch counts it."""

    file: FileParts
    offset: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in the file in row-major order without gaps."""
        return self.stride == contiguous_stride(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes the elements take."""
        return self._elements * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """How many bytes there are from the first element to the end of the last."""
        if self._elements == 0:
            return 0
        last = sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        return (last + 1) * self.dtype.itemsize

    @property
    def _elements(self) -> int:
        return math.prod(self.shape)  # torch's own count overflows without a word


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The stride of a row-major tensor of `shape`, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))
