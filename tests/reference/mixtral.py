"""Mixtral in one file, as plainly as it can be written: the oracle for model/ and moe/.

It shares no code with the package and no idea of speed: the whole attention matrix, one token after the other
through the experts, any dtype (float64 for comparisons). Weights are a dict with Mistral's names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

Weights = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """What the weights' shapes do not say."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    top_k: int
    norm_eps: float = 1e-5
    rope_theta: float = 1e6
    sliding_window: int | None = None


def logits(weights: Weights, shape: Shape, tokens: list[int]) -> torch.Tensor:
    """The logits after each token of one request, `[T, V]`, in the dtype of the weights."""
    x = weights["tok_embeddings.weight"][torch.tensor(tokens, dtype=torch.int64)]
    for layer in range(shape.num_layers):
        prefix = f"layers.{layer}."
        part = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        x = x + attention(part, shape, norm(x, part["attention_norm.weight"], shape.norm_eps))
        x = x + mixture(part, shape, norm(x, part["ffn_norm.weight"], shape.norm_eps))
    return norm(x, weights["norm.weight"], shape.norm_eps) @ weights["output.weight"].T


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root mean square normalisation."""
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + eps) * weight


def attention(part: Weights, shape: Shape, x: torch.Tensor) -> torch.Tensor:
    """Every head by itself, with a T x T matrix of scores."""
    length = len(x)
    q = rotate((x @ part["attention.wq.weight"].T).view(length, shape.num_heads, shape.head_dim), shape.rope_theta)
    k = rotate((x @ part["attention.wk.weight"].T).view(length, shape.num_kv_heads, shape.head_dim), shape.rope_theta)
    v = (x @ part["attention.wv.weight"].T).view(length, shape.num_kv_heads, shape.head_dim)
    i, j = torch.arange(length)[:, None], torch.arange(length)
    unseen = (j > i) | (i - j >= (shape.sliding_window or length))
    heads = []
    for head in range(shape.num_heads):
        kv_head = head * shape.num_kv_heads // shape.num_heads
        scores = q[:, head] @ k[:, kv_head].T / shape.head_dim**0.5
        scores[unseen] = -torch.inf
        heads.append(torch.softmax(scores, dim=-1) @ v[:, kv_head])
    return torch.cat(heads, dim=-1) @ part["attention.wo.weight"].T


def rotate(x: torch.Tensor, theta: float) -> torch.Tensor:
    """Multiply element pairs (2i, 2i+1), as complex numbers, by exp(j * position * theta ** (-2i/d))."""
    length, _, head_dim = x.shape
    pairs = torch.view_as_complex(x.contiguous().view(*x.shape[:2], head_dim // 2, 2))
    speeds = torch.tensor([theta ** (-2 * i / head_dim) for i in range(head_dim // 2)], dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None, None] * speeds
    turned = pairs * torch.polar(torch.ones_like(angles), angles).to(pairs.dtype)
    return torch.view_as_real(turned).flatten(-2)


def mixture(part: Weights, shape: Shape, x: torch.Tensor) -> torch.Tensor:
    """Softmax over all experts, keep the largest, renormalise; then token by token, expert by expert."""
    shares = torch.softmax(x @ part["feed_forward.gate.weight"].T, dim=-1)
    out = torch.zeros_like(x)
    for token in range(len(x)):
        ranking: list[int] = shares[token].argsort(descending=True).tolist()
        ids = ranking[: shape.top_k]
        total = shares[token, ids].sum()
        for e in ids:
            out[token] += shares[token, e] / total * expert(part, e, x[token])
    return out


def expert(part: Weights, e: int, x: torch.Tensor) -> torch.Tensor:
    """`w2 (silu(w1 x) * w3 x)`."""
    w1, w2, w3 = (part[f"feed_forward.experts.{e}.{name}.weight"] for name in ("w1", "w2", "w3"))
    gate = w1 @ x
    return w2 @ (gate / (1 + torch.exp(-gate)) * (w3 @ x))
