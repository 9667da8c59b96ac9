"""Random weights to start a training from."""

import torch
from torch import nn

from mixtralkit.model.transformer import Transformer

STD = 0.02


def initialise(model: Transformer, seed: int) -> None:
    """Fill every weight in place: matrices and embeddings with a normal distribution of deviation 0.02, norms with 1.

    The two matrices of a block that write to the residual stream (wo and w2) get 0.02 / sqrt(2 * layers), so that the
    stream's size does not grow with the depth (GPT-2's rule).
    """
    generator = torch.Generator().manual_seed(seed)
    residual_std = STD / (2 * model.config.num_layers) ** 0.5
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            nn.init.ones_(parameter)
        else:
            writes_residual = name.endswith((".wo.weight", ".w2.weight"))
            nn.init.normal_(parameter, std=residual_std if writes_residual else STD, generator=generator)
