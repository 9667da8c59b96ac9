"""Which tokens may be drawn and with which weights: temperature, min-p, top-k and top-p of one row.

Everything is in float64: a float32 sum over a vocabulary loses shares of a millionth, and with them the rarest tokens.
Weights are relative to the likeliest token's, which is 1; they need not add up to anything.
"""

import numpy as np

from mixtralkit.engine.largest import Floats, Indices, largest
from mixtralkit.engine.request import SamplingParams

LIGHT = 1e-4  # the tokens that a trained model means are mostly above
STEPS = 8  # bins of weights for each power of two
BIN_BITS = 49  # below the sign, the exponent and log2(STEPS) bits of the fraction
ONE = 1023 * STEPS  # the bin of weight 1
BLOCK = 256


def draw(logits_V: Floats, params: SamplingParams, uniform: float) -> int:
    """The token that `uniform`, in [0, 1), falls on. The largest logit must be finite; -inf excludes a token.

    In vLLM's order: temperature, min-p, then top-k, then top-p of what these left. Of equal tokens the smaller ids
    are kept. The shares of those that are left are laid out by id, so the row and `uniform` alone decide; ops/sample
    draws the same token.
    """
    tokens = np.sort(largest(logits_V, params.top_k)) if 0 < params.top_k < logits_V.size else None
    weights = _weights(logits_V if tokens is None else logits_V[tokens], float(logits_V.max()), params.temperature)
    if params.min_p > 0:
        kept = np.flatnonzero(weights >= params.min_p)
        weights, tokens = weights[kept], kept if tokens is None else tokens[kept]
    if params.top_p < 1:
        kept = nucleus(weights, params.top_p)
        weights, tokens = weights[kept], kept if tokens is None else tokens[kept]
    place = _place(weights, uniform)
    return place if tokens is None else int(tokens[place])


def nucleus(weights: Floats, top_p: float) -> Indices:
    """The indices, in order, of the fewest largest weights, at most 1 each, whose share of all reaches `top_p`.

    The same as by a stable sort and a cut, without the sort. Of equal weights the first are kept.
    """
    share = top_p * float(weights.sum())
    heavy = np.flatnonzero(weights >= LIGHT)
    if weights[heavy].sum() > share:
        kept: Indices = heavy[_fewest(weights[heavy], share)]
        return kept
    return _fewest(weights, share)


def _fewest(weights: Floats, share: float) -> Indices:
    """The fewest largest weights that reach `share`. Only the bin that the last of them is in needs an order."""
    bins = ONE - (weights.view(np.int64) >> BIN_BITS)  # from the top; the bits of positive floats are in their order
    sums = np.bincount(bins, weights=weights).cumsum()
    last = min(int(np.searchsorted(sums, share)), sums.size - 1)
    edge = np.flatnonzero(bins == last)
    edge = edge[np.argsort(-weights[edge], kind="stable")]
    missing = share - (sums[last - 1] if last else 0.0)
    count = int(np.searchsorted(weights[edge].cumsum(), missing)) + 1
    kept = bins < last
    kept[edge[:count]] = True
    return np.flatnonzero(kept)


def _weights(logits: Floats, best: float, temperature: float) -> Floats:
    weights = logits.astype(np.float64)
    weights -= best  # first, so that the smallest temperatures do not overflow upwards
    if temperature != 1:
        with np.errstate(over="ignore"):  # to -inf, whose weight is 0
            weights /= temperature
    return np.exp(weights, out=weights)


def _place(weights: Floats, uniform: float) -> int:
    """The index where the running sum exceeds this share of the sum; blocks first, to add up only one of them."""
    blocks = np.add.reduceat(weights, np.arange(0, weights.size, BLOCK)).cumsum()
    target = uniform * blocks[-1]
    block = int(np.searchsorted(blocks, target, side="right"))
    rest = target - (blocks[block - 1] if block else 0.0)
    sums = weights[block * BLOCK : (block + 1) * BLOCK].cumsum()
    rest = min(rest, np.nextafter(sums[-1], 0.0))  # a block's sum in another order may be a rounding apart
    return block * BLOCK + int(np.searchsorted(sums, rest, side="right"))
