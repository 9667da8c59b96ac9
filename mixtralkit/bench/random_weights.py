"""A model with random weights, made in place: its speed is that of a real one of the same shape.

One pattern of random numbers is repeated all over, which is as fast as memory. Its length is prime and each tensor
begins at another place of it, so that no two rows or experts are alike and the gate spreads the tokens over them all.
"""

from collections.abc import Callable

import torch
from torch import nn

from mixtralkit.checkpoint.memory_room import free_memory
from mixtralkit.checkpoint.quantization import part_dtype
from mixtralkit.checkpoint.slots import Slots
from mixtralkit.config import ModelConfig
from mixtralkit.errors import LaunchError
from mixtralkit.model.quantized_linear import quantize_modules
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops.quantized_weight import QuantKind

STD = 0.02
PATTERN = 1_048_573  # a prime number of elements
STRIDE = 611_953  # how far on in the pattern the next tensor begins


def random_model(
    config: ModelConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    quantize: QuantKind | None = None,
    ranks_on_device: int = 1,
    spread: Callable[[Transformer], None] | None = None,
) -> Transformer:
    """A model of that shape, ready for inference: norms are 1, all else has a standard deviation of 0.02.

    With `quantize` its matrices are random codes; the rest is in `dtype`. `spread` is called with the still empty
    model, as `load_model` does, and only what is left of it takes memory. Raises `LaunchError` when the device has no
    room for as many such shares as it has ranks.
    """
    with torch.device("meta"):
        model = Transformer(config)
    if quantize is not None:
        quantize_modules(model, quantize)
    if spread is not None:
        spread(model)
    empty = {name: parameter.shape for name, parameter in model.named_parameters()}
    share = sum(shape.numel() * (part_dtype(name, quantize) or dtype).itemsize for name, shape in empty.items())
    _check_room(share, ranks_on_device, device)
    source, slots = _Source(dtype, device, quantize), Slots(model)
    for name, shape in empty.items():
        owner, _, leaf = name.rpartition(".")
        tensor = slots.place(name, source.tensor(leaf, shape))
        setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))
    return model.eval()


class _Source:
    """Makes one tensor after the other."""

    def __init__(self, dtype: torch.dtype, device: torch.device, quantize: QuantKind | None) -> None:
        generator = torch.Generator().manual_seed(0)
        numbers = torch.randn(PATTERN, generator=generator) * STD
        codes, self._step = _codes(numbers, quantize, generator)
        self._dtype = dtype
        self._device = device
        self._patterns = {"weight": numbers.to(device, dtype), "codes": codes.to(device)}
        self._quantize = quantize
        self._tensors = 0

    def tensor(self, leaf: str, shape: torch.Size) -> torch.Tensor:
        """The next tensor; `leaf` is the last part of its name."""
        constants = {"scales": self._step, "mins": -7.5 * self._step}
        if leaf in constants or len(shape) == 1:
            dtype = part_dtype(f".{leaf}", self._quantize) or self._dtype
            return torch.full(shape, constants.get(leaf, 1.0), dtype=dtype, device=self._device)
        self._tensors += 1
        pattern = self._patterns[leaf].roll(self._tensors * STRIDE)
        flat = pattern.new_empty(shape.numel())
        whole = len(flat) // PATTERN * PATTERN
        flat[:whole].view(-1, PATTERN).copy_(pattern)
        flat[whole:] = pattern[: len(flat) - whole]
        return flat.view(part_dtype(f".{leaf}", self._quantize) or self._dtype).view(shape)


def _codes(numbers: torch.Tensor, quantize: QuantKind | None, generator: torch.Generator) -> tuple[torch.Tensor, float]:
    """Bytes for the codes, and the scale with which they have the standard deviation of all weights."""
    if quantize is QuantKind.FP8:
        return (numbers / STD).to(torch.float8_e4m3fn).view(torch.uint8), STD
    # Evenly drawn. The int8 code 0 does not occur; int4 codes lie two in a byte.
    codes = torch.randint(1, 256, (PATTERN,), generator=generator, dtype=torch.uint8)
    return codes, 0.0 if quantize is None else STD * 12**0.5 / 2**quantize.bits


def _check_room(share: int, ranks: int, device: torch.device) -> None:
    needed, free = share * ranks, free_memory(device)
    if free is not None and needed > free:
        raise LaunchError(
            f"random weights take {needed / 1e9:.1f} GB on {device} (ranks there: {ranks}), and {free / 1e9:.1f} GB "
            "are free; use a smaller --config, a --dtype of fewer bytes, --quantize, or more nodes"
        )
