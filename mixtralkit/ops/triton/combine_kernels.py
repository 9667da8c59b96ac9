"""The end of a mixture of experts: each token's rows added up, weighted, with what the layer adds to them."""

import torch
import triton
import triton.language as tl

_COLUMNS = 1024  # of a token, in one program


def weighted_rows_sum(
    rows_ND: torch.Tensor, weights_TK: torch.Tensor, residual_TD: torch.Tensor | None = None
) -> torch.Tensor:
    """`residual + sum over k of weight * row`, `[T, D]` in the dtype of the rows.

    Row token * K + k is that of the pair, as `grouped_swiglu` returns them. Added in the order of the top-k and in
    float32, the residual last; rounded once. No gradients.
    """
    (tokens, top_k), dim = weights_TK.shape, rows_ND.shape[1]
    result_TD = rows_ND.new_empty(tokens, dim)
    if tokens:
        residual_TD = None if residual_TD is None else residual_TD.contiguous()
        columns = min(_COLUMNS, triton.next_power_of_2(dim))
        sum_kernel[(tokens, triton.cdiv(dim, columns))](
            rows_ND.contiguous(), weights_TK.contiguous(), residual_TD, result_TD, TOP_K=top_k, D=dim, COLUMNS=columns
        )
    return result_TD


@triton.jit
def sum_kernel(
    rows_ptr,
    weights_ptr,
    residual_ptr,
    result_ptr,
    TOP_K: tl.constexpr,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A program adds up `COLUMNS` of one token."""
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    mask = columns < D
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    for k in tl.static_range(TOP_K):
        row = tl.load(rows_ptr + (token * TOP_K + k) * D + columns, mask=mask, other=0.0)
        total += row.to(tl.float32) * tl.load(weights_ptr + token * TOP_K + k)
    if residual_ptr is not None:
        total += tl.load(residual_ptr + token * D + columns, mask=mask, other=0.0).to(tl.float32)
    tl.store(result_ptr + token * D + columns, total.to(result_ptr.dtype.element_ty), mask=mask)
