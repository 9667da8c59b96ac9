"""What is between an expert's two products, where they are not ours."""

import torch
import triton
import triton.language as tl

COLUMNS = 1024  # of a program


def gated_halves(both_NU: torch.Tensor) -> torch.Tensor:
    """`silu(a) * b` for rows of which a is the first half and b the second, `[N, F]`; float32 within. No gradients."""
    rows, width = both_NU.shape[0], both_NU.shape[1] // 2
    hidden_NF = both_NU.new_empty(rows, width)
    if hidden_NF.numel():
        gated_kernel[rows, triton.cdiv(width, COLUMNS)](both_NU.contiguous(), hidden_NF, F=width, COLUMNS=COLUMNS)
    return hidden_NF


@triton.jit
def gated_kernel(both_ptr, hidden_ptr, F: tl.constexpr, COLUMNS: tl.constexpr):
    """Some columns of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    gate = tl.load(both_ptr + row * 2 * F + columns, mask=columns < F, other=0.0).to(tl.float32)
    up = tl.load(both_ptr + row * 2 * F + F + columns, mask=columns < F, other=0.0).to(tl.float32)
    hidden = gate * tl.sigmoid(gate) * up
    tl.store(hidden_ptr + row * F + columns, hidden.to(hidden_ptr.dtype.element_ty), mask=columns < F)
