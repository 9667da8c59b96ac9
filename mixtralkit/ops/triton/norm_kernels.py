"""Root mean square normalisation on a GPU."""

import torch
import triton
import triton.language as tl

_ELEMENTS_A_WARP = 512  # 16 a lane, two loads of 16 bytes in bfloat16; not measured on a GPU yet
_MOST_WARPS = 16


def rms_norm(x_TD: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
    """As ops/rms_norm has it: sums in float32, rounded to the dtype of `x_TD` before the weight. One program a row."""
    x_TD, weight_D = x_TD.contiguous(), weight_D.contiguous()
    out_TD = torch.empty_like(x_TD)
    dim = x_TD.shape[-1]
    if x_TD.numel():
        block = triton.next_power_of_2(dim)
        warps = min(max(1, block // _ELEMENTS_A_WARP), _MOST_WARPS)
        rms_norm_kernel[(x_TD.numel() // dim,)](x_TD, weight_D, out_TD, eps, dim, block, num_warps=warps)
    return out_TD


@triton.jit
def rms_norm_kernel(x_ptr, weight_ptr, out_ptr, eps, DIM: tl.constexpr, BLOCK: tl.constexpr):
    """Row `program_id(0)` of `out_ptr`."""
    row = tl.program_id(0).to(tl.int64) * DIM
    place = tl.arange(0, BLOCK)
    inside = place < DIM
    x = tl.load(x_ptr + row + place, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + place, mask=inside, other=0.0)
    scaled = (x * tl.rsqrt(tl.sum(x * x, axis=0) / DIM + eps)).to(out_ptr.dtype.element_ty)
    # The product of two half precision numbers, rounded once: what torch does with them.
    product = scaled.to(tl.float32) * weight.to(out_ptr.dtype.element_ty).to(tl.float32)
    tl.store(out_ptr + row + place, product.to(out_ptr.dtype.element_ty), mask=inside)
