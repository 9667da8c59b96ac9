"""The product of two tiles, for all kernels."""

import triton
import triton.language as tl

_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def dot(x_MK, y_KN, sum_MN):
    """`sum + x y` with float32 sums, and exact float32 products for float32 tiles.

    Triton's interpreter multiplies the bits of bfloat16 as if they were integers; there tiles become float32 first,
    which changes no product.
    """
    if _INTERPRETED:
        x_MK, y_KN = x_MK.to(tl.float32), y_KN.to(tl.float32)
    return tl.dot(x_MK, y_KN, sum_MN, input_precision="ieee")
