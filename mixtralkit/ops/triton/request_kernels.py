"""What the kernels read of a request: where its numbers are in `requests_BX`, which ops/device_segments.py makes."""

import triton.language as tl

from mixtralkit.ops import device_segments

# Kernels see no other globals than constants of Triton's own.
ROW = tl.constexpr(device_segments.ROW)
START = tl.constexpr(device_segments.START)
LENGTH = tl.constexpr(device_segments.LENGTH)
BLOCKS = tl.constexpr(device_segments.BLOCKS)
