"""Which tokens of a row are kept, without a sort: all from some rank on, which bisection finds.

A token's rank, int64, has its logit's bits above its id's, so that no two are equal: better tokens have higher ranks,
and of equal ones smaller ids do. Weights are relative to the best token's and, like their sums, float64, as on the
host: server GPUs have half as many units for it as for float32, and a vocabulary's weights are work of microseconds.

Below, `row` is what does not change for a row: the pointers to its logits and to memory for a list of ids; the best
logit, the temperature and min_p, all float64. A view of it is the tokens that a function looks at, always by
increasing id: the first `listed` of the list, or all if that is 0. V is how many tokens there are, BLOCK how many a
program takes at a time.
"""

import triton
import triton.language as tl

EVERY_RANK = tl.constexpr(-(2**63))
_LOG_LIGHT = tl.constexpr(-14.0)  # tokens of less than a millionth of the best one's weight seldom matter


@triton.jit
def list_heavy(row, V: tl.constexpr, BLOCK: tl.constexpr):
    """List the ids of all tokens but the light ones, and return how many there are."""
    logits_ptr, ids_ptr, best, temperature, _ = row
    limit = (best + _LOG_LIGHT * temperature).to(tl.float32)
    count = 0
    for start in range(0, V, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        logits = tl.load(logits_ptr + ids, mask=ids < V, other=float("-inf"))
        heavy = (ids < V) & (logits >= limit)
        places = count + tl.cumsum(heavy.to(tl.int32), 0) - 1
        tl.store(ids_ptr + places, ids, mask=heavy)
        count += tl.sum(heavy.to(tl.int32))
    tl.debug_barrier()  # what one thread has written, others will read
    return count


@triton.jit
def number_of(listed, V: tl.constexpr):
    """How many tokens a view has."""
    return tl.where(listed > 0, listed, V)


@triton.jit
def ranked(row, listed, start, V: tl.constexpr, BLOCK: tl.constexpr):
    """Ids, logits and ranks of a view from place `start` on; behind its end logits of -inf and the lowest rank."""
    logits_ptr, ids_ptr, _, _, _ = row
    places = start + tl.arange(0, BLOCK)
    inside = places < number_of(listed, V)
    ids = tl.where(listed > 0, tl.load(ids_ptr + places, mask=places < listed, other=0), places)
    logits = tl.load(logits_ptr + ids, mask=inside, other=float("-inf"))
    bits = tl.where(logits == 0, 0.0, logits).to(tl.int32, bitcast=True)  # -0.0 is 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    ranks = (ordered.to(tl.int64) << 32) + (V - 1 - ids)
    return ids, logits, tl.where(inside, ranks, EVERY_RANK)


@triton.jit
def weighed(row, listed, start, last, V: tl.constexpr, BLOCK: tl.constexpr):
    """Ids, ranks and weights of a view from place `start` on; 0 for tokens below rank `last` or too light for min_p."""
    _, _, best, temperature, min_p = row
    ids, logits, ranks = ranked(row, listed, start, V, BLOCK)
    weights = tl.exp((logits.to(tl.float64) - best) / temperature)
    return ids, ranks, tl.where((ranks >= last) & (weights >= min_p), weights, 0.0)


@triton.jit
def total_weight(row, listed, last, V: tl.constexpr, BLOCK: tl.constexpr):
    """The sum of a view's weights as `weighed` has them, added up in the order in which `fallen_on` goes."""
    total = tl.full([], 0.0, tl.float64)
    for start in range(0, number_of(listed, V), BLOCK):
        _, _, weights = weighed(row, listed, start, last, V, BLOCK)
        total += tl.sum(weights)
    return total


@triton.jit
def last_rank(row, listed, goal, low, high, WEIGHED: tl.constexpr, V: tl.constexpr, BLOCK: tl.constexpr):
    """The highest rank from which on a view has `goal` tokens, or with WEIGHED such a weight; at least `low`.

    `high` is the best token's rank. Both ends move to tokens' ranks, so that some rounds more than there are bits in
    the number of tokens are enough, seldom one for each bit of a rank.
    """
    while low < high:
        middle = (low | high) - ((low ^ high) >> 1)  # the mean, rounded up: nothing overflows
        reached = tl.full([], 0.0, tl.float64)
        above, below = high, low
        for start in range(0, number_of(listed, V), BLOCK):
            if WEIGHED:
                _, ranks, amounts = weighed(row, listed, start, middle, V, BLOCK)
            else:
                _, _, ranks = ranked(row, listed, start, V, BLOCK)
                amounts = (ranks >= middle).to(tl.float64)
            reached += tl.sum(amounts)
            above = tl.minimum(above, tl.min(tl.where(ranks >= middle, ranks, high)))
            below = tl.maximum(below, tl.max(tl.where(ranks < middle, ranks, low)))
        if reached >= goal:
            low = above
        else:
            high = below
    return low


@triton.jit
def fallen_on(row, listed, last, target, V: tl.constexpr, BLOCK: tl.constexpr):
    """The id of the first token of a view with which the sum of weights exceeds `target`, which all together do."""
    start = 0
    before = tl.full([], 0.0, tl.float64)
    ids, _, weights = weighed(row, listed, start, last, V, BLOCK)
    total = tl.sum(weights)
    while (before + total <= target) & (start + BLOCK < number_of(listed, V)):
        before += total
        start += BLOCK
        ids, _, weights = weighed(row, listed, start, last, V, BLOCK)
        total = tl.sum(weights)
    over = (before + tl.cumsum(weights, 0) > target) & (weights > 0)
    first = tl.min(tl.where(over, ids, V))
    # Running sums may end a rounding below the sum.
    return tl.where(first < V, first, tl.max(tl.where(weights > 0, ids, 0)))
