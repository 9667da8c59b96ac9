"""Causal grouped-query attention of one request's new tokens over its keys and values."""

import torch
import torch.nn.functional as F


def attention(
    q_THd: torch.Tensor, k_GSd: torch.Tensor, v_GSd: torch.Tensor, sliding_window: int | None = None
) -> torch.Tensor:
    """Attend from the last T of S positions to all of them, causally; returns `[T, H, d]`.

    H is a multiple of G: each KV head serves H/G heads in order. With a `sliding_window` of w a token sees itself and
    the w - 1 before it. Scores are scaled by d ** -0.5; sums are at least in float32 inside torch's kernel.
    Differentiable.
    """
    tokens, heads, head_dim = q_THd.shape
    kv_heads, positions = k_GSd.shape[:2]
    window = None if sliding_window is None or sliding_window >= positions else sliding_window
    if tokens == 1:
        first = 0 if window is None else positions - window
        grouped = q_THd.view(1, kv_heads, heads // kv_heads, head_dim)
        out = F.scaled_dot_product_attention(grouped, k_GSd[None, :, first:], v_GSd[None, :, first:])
        return out.reshape(1, heads, head_dim)
    mask = None if tokens == positions and window is None else _mask(tokens, positions, window, q_THd.device)
    repeats = heads // kv_heads
    out_HTd = F.scaled_dot_product_attention(
        q_THd.transpose(0, 1)[None],
        k_GSd.repeat_interleave(repeats, dim=0)[None],
        v_GSd.repeat_interleave(repeats, dim=0)[None],
        attn_mask=mask,
        is_causal=mask is None,
    )[0]
    return out_HTd.transpose(0, 1)


def _mask(tokens: int, positions: int, window: int | None, device: torch.device) -> torch.Tensor:
    query = torch.arange(positions - tokens, positions, device=device)[:, None]
    key = torch.arange(positions, device=device)[None, :]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)
