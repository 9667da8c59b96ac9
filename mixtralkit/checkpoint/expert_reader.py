"""Single experts of a checkpoint, read after the model has been loaded, as the loader would have read them."""

from pathlib import Path

import torch
from torch import nn

from mixtralkit.checkpoint.formats import detect
from mixtralkit.checkpoint.loader import fill
from mixtralkit.checkpoint.names import EXPERT
from mixtralkit.checkpoint.quantizing import open_weights
from mixtralkit.model.moe_ffn import Expert
from mixtralkit.model.quantized_linear import quantize_modules
from mixtralkit.ops.quantized_weight import QuantKind


class ExpertReader:
    """Experts of the checkpoint in `folder`, in `dtype` (None: the files' own) and quantized as the model is.

    The files' tables are read when it is made, which raises `CheckpointError` as the loader does. One thread at a time
    may use it.
    """

    def __init__(
        self, folder: Path | str, *, dtype: torch.dtype | None, device: torch.device, quantize: QuantKind | None
    ) -> None:
        self._weights = open_weights(detect(folder), quantize)
        self._dtype = dtype or self._weights.dtype
        self._device = device

    def read(self, layer: int, expert: int) -> nn.Module:
        """One expert, ready for inference; in the mapped file where the loader would leave it there."""
        config = self._weights.checkpoint.config
        with torch.device("meta"):
            module = Expert(config.dim, config.hidden_dim)
        if self._weights.quantization is not None:
            quantize_modules(module, self._weights.quantization)
        prefix = EXPERT.format(layer=layer, expert=expert)
        fill(module, self._weights, dtype=self._dtype, device=self._device, prefix=prefix)
        return module.eval().requires_grad_(False)
