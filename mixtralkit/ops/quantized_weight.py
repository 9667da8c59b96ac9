"""A weight matrix in int8, int4 or fp8, in the layout that the kernels read.

Integers are for CPUs first. The kernels' lanes are 16 outputs there, and their integer dot products take 4 inputs at a
time. So outputs lie in blocks of 16 (the last one filled up with zero weights), and within a block the codes of 4
neighbouring inputs of one output lie together.

fp8 is for GPUs: numbers row after row, as in a matrix that is not quantized, so that tiles go to the tensor cores the
same way, and one scale an output, which multiplies a finished sum. More scales would gain little, since a number with
an exponent of its own is off by the same part of itself whatever the scale: normal weights by 2.65 % with a scale an
output or a block of 128 x 128, by 2.51 % with a scale for each 64 inputs.

docs/checkpoints.md describes the same layouts for readers of the files.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import torch

from mixtralkit.errors import UsageError

OUTPUT_BLOCK = 16
QUAD = 4
GROUP = 64  # inputs of an output that share a scale; benchmarks/results has what other sizes do to the loss


class QuantKind(Enum):
    """How weights are quantized: the name of the numbers in which they are kept."""

    INT8 = "int8"
    INT4 = "int4"
    FP8 = "fp8"

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 4 if self is QuantKind.INT4 else 8

    @property
    def has_mins(self) -> bool:
        """Whether the codes begin at a minimum of each group, rather than lie on both sides of zero."""
        return self is QuantKind.INT4

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes, with its part of the group's scale and minimum; an output's is next to none."""
        if self is QuantKind.FP8:
            return self.bits
        return self.bits + 16 * (2 if self.has_mins else 1) / GROUP


def quant_kind(name: str) -> QuantKind:
    """The kind of that name; raises `UsageError` for any other."""
    try:
        return QuantKind(name)
    except ValueError:
        names = ", ".join(kind.value for kind in QuantKind)
        raise UsageError(f"quantize is {name!r}; possible are {names}, or None") from None


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A matrix `[outputs, inputs]`.

    A weight is about scale * (code - 128) in int8, scale * code + minimum in int4, scale * code in fp8.

    In fp8 `codes` are float8_e4m3fn `[outputs, inputs]`, `scales` float32 `[outputs]`.

    In the others `codes` is uint8, a row a block. int8: `[blocks, quads of inputs, 16 outputs, 4 inputs]`, codes from 1
    to 255. int4: a byte has two codes of 0 to 15; of a group of 64 inputs the byte (j, output, i) of
    `[blocks, groups, 8, 16, 4]` has the code of input 4 * j + i in its low half, and that of input 32 + 4 * j + i in
    its high half. `scales` and `mins` are float16 `[blocks, groups * 16 outputs]`.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    mins: torch.Tensor | None
    outputs: int
    inputs: int
    kind: QuantKind

    def __post_init__(self) -> None:
        for name, (dtype, shape) in part_shapes(self.outputs, self.inputs, self.kind).items():
            found = getattr(self, name)
            if found is None or found.dtype != dtype or found.shape != shape:
                what = None if found is None else f"{found.dtype} {list(found.shape)}"
                raise ValueError(f"the {name} are {what}, not {dtype} {list(shape)}")

    @property
    def parts(self) -> dict[str, torch.Tensor]:
        """The tensors that make up the matrix, by name."""
        parts = {"codes": self.codes, "scales": self.scales}
        return parts if self.mins is None else {**parts, "mins": self.mins}

    @property
    def nbytes(self) -> int:
        """The bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())

    def codes_BgOG(self) -> torch.Tensor:
        """The integers, uint8 `[blocks, groups, 16 outputs, 64 inputs]`: one a byte, an output's inputs in a row."""
        blocks, groups = self.codes.shape[0], self.inputs // GROUP
        codes = self.codes.view(blocks, groups, -1, OUTPUT_BLOCK, QUAD)
        if self.kind is QuantKind.INT4:
            codes = torch.cat((codes & 15, codes >> 4), dim=2)
        return codes.transpose(2, 3).reshape(blocks, groups, OUTPUT_BLOCK, GROUP)

    def dequantize(self) -> torch.Tensor:
        """The matrix that the codes stand for, float32 `[outputs, inputs]`."""
        if self.kind is QuantKind.FP8:
            return self.codes.float() * self.scales[:, None]
        codes_BgOG = self.codes_BgOG().float()
        scales_BgO1 = self.scales.view(*codes_BgOG.shape[:3], 1).float()
        if self.mins is None:
            weights_BgOG = (codes_BgOG - 128) * scales_BgO1
        else:
            weights_BgOG = codes_BgOG * scales_BgO1 + self.mins.view(scales_BgO1.shape).float()
        return weights_BgOG.transpose(1, 2).reshape(-1, self.inputs)[: self.outputs]


Matrix: TypeAlias = torch.Tensor | QuantizedWeight


def part_shapes(outputs: int, inputs: int, kind: QuantKind) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of each part of a matrix `[outputs, inputs]`.

    Raises `ValueError` when `inputs` do not divide into groups.
    """
    if inputs % GROUP:
        raise ValueError(f"{inputs} inputs do not divide into groups of {GROUP}")
    if kind is QuantKind.FP8:
        return {"codes": (torch.float8_e4m3fn, (outputs, inputs)), "scales": (torch.float32, (outputs,))}
    blocks = -(-outputs // OUTPUT_BLOCK)
    a_group = (torch.float16, (blocks, inputs // GROUP * OUTPUT_BLOCK))
    a_block = (torch.uint8, (blocks, inputs * OUTPUT_BLOCK * kind.bits // 8))
    shapes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {"codes": a_block, "scales": a_group}
    return {**shapes, "mins": a_group} if kind.has_mins else shapes


def empty_quantized(
    outputs: int, inputs: int, kind: QuantKind, device: torch.device | str | None = None
) -> QuantizedWeight:
    """A matrix of that shape with undefined weights; `device` None is torch's default one."""
    shapes = part_shapes(outputs, inputs, kind)
    parts = {name: torch.empty(shape, dtype=dtype, device=device) for name, (dtype, shape) in shapes.items()}
    return QuantizedWeight(parts["codes"], parts["scales"], parts.get("mins"), outputs, inputs, kind)


def random_quantized(
    outputs: int, inputs: int, kind: QuantKind, *, std: float = 0.02, generator: torch.Generator | None = None
) -> QuantizedWeight:
    """A matrix of evenly drawn weights around 0 of standard deviation `std`; far cheaper than quantizing one.

    The weights that fill up the last block are not zero here. Those of fp8 are normally drawn, and not cheaper.
    """
    made = empty_quantized(outputs, inputs, kind, "cpu")
    if kind is QuantKind.FP8:
        made.codes.copy_(torch.randn(outputs, inputs, generator=generator))
        made.scales.fill_(std)
        return made
    least = 1 if kind is QuantKind.INT8 else 0  # the int8 code 0 does not occur
    made.codes.random_(least, 256, generator=generator)
    scale = std / (2**kind.bits / 12**0.5)
    made.scales.fill_(scale)
    if made.mins is not None:
        made.mins.fill_(-7.5 * scale)
    return made
