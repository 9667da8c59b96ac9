"""Gives a model with random weights a gate whose experts are as popular as wanted: zipf_checkpoint.py's arithmetic.

All embeddings have one component in common, and each row of a gate has so much of it as makes its expert popular; the
rest of both is random, so that a token's experts are otherwise chosen by chance.
"""

import math
from collections.abc import Sequence

import torch

from mixtralkit.config import ModelConfig

COMMON = 0.5  # the common component's part of an embedding's length
EMBEDDING_SCALE = 8.0  # of an element: large beside what the layers add, so that the common component outlives them
NEVER = 32.0  # how far the logits of control tokens lie below the others, which are within 3 of 0
DRAWS, FIT_STEPS, FIT_RATE = 20_000, 200, 0.5


def zipf_shares(num_experts: int, top_k: int, exponent: float) -> list[float]:
    """The share of the rows of each expert, the most popular first; raises `ValueError` for what top-k cannot do."""
    weights = [rank**-exponent for rank in range(1, num_experts + 1)]
    shares = [weight / sum(weights) for weight in weights]
    if shares[0] > 1 / top_k:
        raise ValueError(
            f"with the exponent {exponent:g} one expert would get {shares[0]:.0%} of the rows, but a token sends an "
            f"expert only one of its {top_k}: {1 / top_k:.0%} is the most; give a smaller exponent"
        )
    return shares


def skew(
    state: dict[str, torch.Tensor],
    config: ModelConfig,
    shares_LE: Sequence[Sequence[float]],
    control_tokens: Sequence[int],
    generator: torch.Generator,
) -> None:
    """Change `state`, by canonical names, so that the experts of each layer get about those shares of the rows.

    The control tokens become so unlikely that responses do not end early.
    """
    # Alike in all elements but for the sign, so that bfloat16 keeps it as exactly as anything else; its length is 1.
    common_D = (torch.randint(0, 2, (config.dim,), generator=generator) * 2 - 1) / math.sqrt(config.dim)
    length = COMMON * math.sqrt(config.dim)  # of the common component in a normalised embedding
    rest = math.sqrt(1 - COMMON**2)

    def across(rows: int) -> torch.Tensor:
        """Random rows at a right angle to the common component."""
        noise_RD = torch.randn(rows, config.dim, generator=generator)
        return noise_RD - torch.outer(noise_RD @ common_D, common_D)

    embeddings_VD = EMBEDDING_SCALE * (length * common_D + rest * across(config.vocab_size))
    state["tok_embeddings.weight"] = embeddings_VD.to(state["tok_embeddings.weight"].dtype)
    for layer, shares_E in enumerate(shares_LE):
        name = f"layers.{layer}.feed_forward.gate.weight"
        logits_E = fit_logits(shares_E, config.top_k, generator)
        gate_ED = torch.outer(logits_E / length, common_D) + across(config.num_experts) / (rest * math.sqrt(config.dim))
        state[name] = gate_ED.to(state[name].dtype)
    state["output.weight"][list(control_tokens)] = (-NEVER / length * common_D).to(state["output.weight"].dtype)


def fit_logits(shares_E: Sequence[float], top_k: int, generator: torch.Generator) -> torch.Tensor:
    """What to add to normally distributed logits so that their top-k have these shares, `[E]`."""
    wanted_E = torch.tensor(shares_E)
    noise_NE = torch.randn(DRAWS, len(shares_E), generator=generator)
    logits_E = wanted_E.log()
    for _ in range(FIT_STEPS):
        found_E = shares_of((noise_NE + logits_E).topk(top_k).indices, len(shares_E))
        logits_E = logits_E + FIT_RATE * (wanted_E / found_E.clamp_min(1 / DRAWS)).log()
    return logits_E


def shares_of(expert_ids_TK: torch.Tensor, num_experts: int) -> torch.Tensor:
    """Each expert's share of the rows, `[E]`."""
    return torch.bincount(expert_ids_TK.flatten(), minlength=num_experts) / expert_ids_TK.numel()
