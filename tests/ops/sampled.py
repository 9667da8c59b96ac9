"""What ops/sample promises of a token: its definition, by a full sort and sums in extended precision.

Equal logits are the rule in the rows here, as are settings that narrow nothing or nearly everything.
"""

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import strategies as st

from mixtralkit.engine.narrowing import draw
from mixtralkit.engine.request import SamplingParams
from mixtralkit.ops.sample import GREEDY, Settings

ROUNDING = 1e-12  # of the sum: a vocabulary's float64 sums are off by some units of 1e-15
LARGEST = float(np.nextafter(1.0, 0.0))


def check_token(logits_V: torch.Tensor, settings: Settings, token: int) -> None:
    """Raise `AssertionError` unless `settings` choose this token, up to the rounding of sums."""
    logits = logits_V.double().numpy()
    if settings.temperature == 0:
        assert token == int(np.flatnonzero(logits == logits.max())[0])
        return
    shares = _shares(logits, settings)
    ends = shares.cumsum()
    target, off = settings.uniform * ends[-1], ROUNDING * ends[-1]
    assert shares[token] > 0
    assert ends[token] - shares[token] - off <= target <= ends[token] + off


def host_token(logits_V: torch.Tensor, settings: Settings) -> int:
    """What engine/narrowing draws, by other means; the temperature is not 0."""
    temperature, min_p, top_k, top_p, uniform = settings
    params = SamplingParams(temperature=temperature, min_p=min_p, top_k=top_k, top_p=top_p)
    return draw(logits_V.numpy(), params, uniform)


def _shares(logits: npt.NDArray[np.float64], settings: Settings) -> npt.NDArray[np.longdouble]:
    """Of each token, by id; they need not add up to 1."""
    with np.errstate(over="ignore"):
        powers = np.exp((logits - logits.max()) / settings.temperature)
    weights: npt.NDArray[np.longdouble] = powers.astype(np.longdouble)
    order = np.lexsort((np.arange(logits.size), -logits))
    ranked = np.where(weights[order] >= settings.min_p, weights[order], 0)
    if settings.top_k:
        ranked[settings.top_k :] = 0
    if settings.top_p < 1:
        ends = ranked.cumsum()
        ranked[1:][ends[:-1] >= settings.top_p * float(ends[-1])] = 0
    weights[order] = ranked
    return weights


@st.composite
def problems(draw: st.DrawFn, most: int) -> tuple[torch.Tensor, Settings]:
    """A row of up to `most` logits, the largest of which is finite, and settings with a temperature."""
    size = draw(st.integers(1, most))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits_V = torch.randn(size, generator=generator) * draw(st.sampled_from([0.0, 1.0, 5.0, 400.0]))
    if draw(st.booleans()):
        logits_V.round_()  # some are -0.0
    if draw(st.booleans()):
        logits_V[1::3] = -torch.inf
    settings = Settings(
        temperature=draw(st.sampled_from([0.05, 1.0, 7.0])),
        min_p=draw(st.sampled_from([0.0, 0.0, 1e-3, 0.5, 1.0])),
        top_k=draw(st.sampled_from([0, 0, 1, 2, size // 2, size - 1, size, size + 5])),
        top_p=draw(st.one_of(st.sampled_from([1.0, 1.0, 0.5, 0.9, 1e-9, LARGEST]), st.floats(0.01, 0.99))),
        uniform=draw(st.one_of(st.sampled_from([0.0, 0.5, LARGEST]), st.floats(0, 1, exclude_max=True))),
    )
    return logits_V, settings


def _rows(vocab: int, spread: float, *settings: Settings) -> tuple[torch.Tensor, list[Settings]]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(settings), vocab, generator=generator) * spread, list(settings)


def _one_and_light_ones(vocab: int) -> torch.Tensor:
    """Tokens so light that they are looked at last weigh 5e-7 of the other one each."""
    logits_V = torch.full((vocab,), -14.5)
    logits_V[0] = 0.0
    return logits_V


_WIDE = (GREEDY, Settings(1.0, 0.0, 0, 1.0, 0.3), Settings(1.3, 0.0, 0, 1.0, LARGEST), Settings(0.2, 0.0, 0, 1.0, 0.0))
_NARROW = (Settings(1.0, 0.0, 50, 1.0, 0.3), Settings(0.7, 0.0, 0, 0.9, 0.6), Settings(1.0, 0.01, 40, 0.95, LARGEST))
_FLAT = [Settings(1.0, 0.0, k, p, u) for k, p, u in ((0, 0.25, LARGEST), (0, 1, 0.5), (9, 1, 0.9), (600, 0.5, 0.99))]
_LIGHT = [Settings(1.0, 0.0, k, p, 0.99995) for k, p in ((0, 0.9998), (0, 0.9999), (500, 0.9999), (500, 1.0))]
_ZEROS = [Settings(1.0, 0.0, k, p, 0.9) for k, p in ((0, 0.5), (1, 1), (0, 1))]
_EXTREME = [Settings(t, 0.0, 0, p, 0.5) for t in (5e-324, 1e-308, 1e300) for p in (1.0, 0.7)]
EDGES = {
    "one token": (torch.zeros(3, 1), [GREEDY, Settings(1.0, 0.0, 1, 0.5, 0.0), Settings(1.0, 1.0, 3, 1.0, LARGEST)]),
    "all settings together": _rows(1000, 2.0, *_WIDE, *_NARROW),
    "a vocabulary": _rows(32000, 2.0, *_WIDE[:2], *_NARROW[1:]),
    "all alike": (torch.ones(4, 700), _FLAT),
    "the coldest and the hottest": _rows(300, 1.0, *_EXTREME),
    "light tokens count": (_one_and_light_ones(600).expand(4, -1), _LIGHT),
    "fewer heavy ones than top_k": _rows(600, 400.0, *(Settings(1.0, 0.0, 400, p, LARGEST) for p in (1.0, 0.9))),
    "both zeros": (torch.tensor([[-0.0, 0.0]] * 3), _ZEROS),
}
