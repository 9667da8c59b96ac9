"""From logits to a token."""

import torch

from mixtralkit.engine.request import SamplingParams


def sample(logits_V: torch.Tensor, params: SamplingParams, generator: torch.Generator) -> int:
    """Choose the next token. `logits_V` and `generator` are on the CPU; one number is drawn unless greedy.

    Works in float64: a float32 sum over a vocabulary loses shares of a millionth, and with them the rarest tokens.
    """
    if params.temperature == 0:
        return int(logits_V.argmax())
    below_best_V = logits_V.double() - logits_V.max()  # first, so that the smallest temperatures do not overflow
    probabilities_V, tokens_V = torch.softmax(below_best_V / params.temperature, dim=0).sort(
        descending=True, stable=True
    )
    kept = _kept(probabilities_V, params)
    cumulative = probabilities_V[:kept].cumsum(0)
    draw = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
    return int(tokens_V[torch.searchsorted(cumulative, draw, right=True).clamp(max=kept - 1)])


def new_generator(params: SamplingParams) -> torch.Generator:
    """The source of a request's random draws."""
    return torch.Generator().manual_seed(params.seed)


def _kept(probabilities_V: torch.Tensor, params: SamplingParams) -> int:
    """How many of the sorted tokens stay: top-k first, then the fewest whose share of what it left reaches top-p."""
    kept = min(params.top_k or probabilities_V.numel(), probabilities_V.numel())
    if params.top_p == 1:
        return kept
    cumulative = probabilities_V[:kept].cumsum(0)
    return min(kept, int(torch.searchsorted(cumulative, params.top_p * cumulative[-1])) + 1)
