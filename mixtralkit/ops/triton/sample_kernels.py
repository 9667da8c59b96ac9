"""The choice of tokens from logits on a GPU: one program a row, which reads it as often as its settings need."""

import torch
import triton
import triton.language as tl

from mixtralkit.ops.triton.narrowing_kernels import EVERY_RANK, fallen_on, last_rank, list_heavy, ranked, total_weight
from mixtralkit.ops.triton.tile_table import architecture, chosen

_SETTINGS = tl.constexpr(5)
_NAN, _INFINITE, _MINUS_INFINITE = tl.constexpr(-1), tl.constexpr(-2), tl.constexpr(-3)  # ops/sample's NO_TOKEN


def sample(logits_BV: torch.Tensor, settings_B5: torch.Tensor) -> torch.Tensor:
    """As ops/sample has it."""
    rows, vocab = logits_BV.shape
    tokens_B = logits_BV.new_empty(rows, dtype=torch.int64)
    if rows:
        ids_BV = logits_BV.new_empty(rows, vocab, dtype=torch.int32)
        block, warps = block_and_warps(vocab, architecture(logits_BV.device))
        sample_kernel[(rows,)](
            *(logits_BV.contiguous(), settings_B5.contiguous(), ids_BV, tokens_B, vocab, block), num_warps=warps
        )
    return tokens_B


def block_and_warps(vocab: int, arch: int) -> tuple[int, int]:
    """How many tokens a program takes at a time, and by how many warps."""
    sizes = chosen(arch, "sample")
    block: int = min(max(triton.next_power_of_2(vocab), sizes["block_a_warp"]), sizes["block"])
    return block, max(1, block // sizes["block_a_warp"])


@triton.jit
def sample_kernel(logits_ptr, settings_ptr, ids_ptr, tokens_ptr, V: tl.constexpr, BLOCK: tl.constexpr):
    """The token of row `program_id(0)`. `ids_ptr`, `[B, V]`, is memory to work in."""
    row = tl.program_id(0).to(tl.int64)
    logits_ptr, ids_ptr, settings_ptr = logits_ptr + row * V, ids_ptr + row * V, settings_ptr + row * _SETTINGS
    best, token, bad = likeliest(logits_ptr, V, BLOCK)
    if (bad == 0) & (tl.load(settings_ptr) > 0):
        token = drawn(logits_ptr, ids_ptr, settings_ptr, best, token, V, BLOCK)
    tl.store(tokens_ptr + row, tl.where(bad == 0, token, bad).to(tl.int64))


@triton.jit
def likeliest(logits_ptr, V: tl.constexpr, BLOCK: tl.constexpr):
    """The largest logit; the smallest id that has it; and 0, or what stands for a token if that logit is not finite."""
    best_B = tl.full([BLOCK], float("-inf"), tl.float32)
    ids_B = tl.full([BLOCK], 0, tl.int32)
    nan_B = tl.full([BLOCK], 0, tl.int32)
    for start in range(0, V, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        logits = tl.load(logits_ptr + ids, mask=ids < V, other=float("-inf"))
        better = logits > best_B
        best_B, ids_B = tl.where(better, logits, best_B), tl.where(better, ids, ids_B)
        nan_B |= (logits != logits).to(tl.int32)
    best = tl.max(best_B)
    bad = tl.where(best == float("-inf"), _MINUS_INFINITE, tl.where(best == float("inf"), _INFINITE, 0))
    return best, tl.min(tl.where(best_B == best, ids_B, V)), tl.where(tl.max(nan_B) > 0, _NAN, bad)


@triton.jit
def drawn(logits_ptr, ids_ptr, settings_ptr, best, best_id, V: tl.constexpr, BLOCK: tl.constexpr):
    """The token that is drawn by a row's settings; `best_id`, whose logit is `best`, is the likeliest.

    Where top-k or top-p narrow the choice, the heavy tokens are listed and, if they are enough, only they are looked
    at from then on.
    """
    temperature, min_p, top_k = tl.load(settings_ptr), tl.load(settings_ptr + 1), tl.load(settings_ptr + 2)
    top_p, uniform = tl.load(settings_ptr + 3), tl.load(settings_ptr + 4)
    row = (logits_ptr, ids_ptr, best.to(tl.float64), temperature, min_p)
    high = tl.max(ranked(row, 0, best_id, V, 1)[2])
    last = tl.full([], EVERY_RANK, tl.int64)
    by_count, by_share = (top_k > 0) & (top_k < V), top_p < 1
    heavy, listed = 0, 0
    if by_count | by_share:
        heavy = list_heavy(row, V, BLOCK)
    if by_count:
        listed = tl.where(heavy >= top_k, heavy, 0)
        last = last_rank(row, listed, top_k, last, high, False, V, BLOCK)
    total = total_weight(row, listed, last, V, BLOCK)
    if by_share:
        goal = top_p * total
        if listed == 0:
            listed = tl.where(total_weight(row, heavy, last, V, BLOCK) >= goal, heavy, 0)
        last = last_rank(row, listed, goal, last, high, True, V, BLOCK)
        total = total_weight(row, listed, last, V, BLOCK)
    return fallen_on(row, listed, last, uniform * total, V, BLOCK)
