"""Causal grouped-query attention of one request's new tokens over its keys and values."""

import torch
import torch.nn.functional as F

from mixtralkit.ops.invariance import is_promised, pad_rows


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
    repeats = heads // kv_heads
    window = None if sliding_window is None or sliding_window >= positions else sliding_window
    if tokens == 1:  # the queries that share a KV head take the place of tokens: they see the same positions
        first = 0 if window is None else positions - window
        out = _attend(q_THd.view(kv_heads, repeats, head_dim), k_GSd[:, first:], v_GSd[:, first:], None)
        return out.reshape(1, heads, head_dim)
    mask = None if tokens == positions and window is None else _mask(tokens, positions, window, q_THd.device)
    keys, values = k_GSd.repeat_interleave(repeats, dim=0), v_GSd.repeat_interleave(repeats, dim=0)
    return _attend(q_THd.transpose(0, 1), keys, values, mask, is_causal=mask is None).transpose(0, 1)


def _attend(
    q_HTd: torch.Tensor, k_HSd: torch.Tensor, v_HSd: torch.Tensor, mask_TS: torch.Tensor | None, is_causal: bool = False
) -> torch.Tensor:
    """Attention by torch's kernel, `[H, T, d]`; ops/invariance.py tells why it is called like this."""
    heads, tokens = q_HTd.shape[:2]
    if is_promised(q_HTd, k_HSd, v_HSd):
        q_HTd = pad_rows(q_HTd)
        mask_TS = None if mask_TS is None else pad_rows(mask_TS, value=True)
        if heads == 1:
            q_HTd, k_HSd, v_HSd = (x.expand(2, -1, -1) for x in (q_HTd, k_HSd, v_HSd))
    out = F.scaled_dot_product_attention(q_HTd[None], k_HSd[None], v_HSd[None], attn_mask=mask_TS, is_causal=is_causal)
    return out[0, :heads, :tokens]


def _mask(tokens: int, positions: int, window: int | None, device: torch.device) -> torch.Tensor:
    query = torch.arange(positions - tokens, positions, device=device)[:, None]
    key = torch.arange(positions, device=device)[None, :]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)
