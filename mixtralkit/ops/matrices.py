"""Weight matrices that are used together, looked at once and not in every call."""

from collections.abc import Sequence
from functools import cached_property

import torch

from mixtralkit.ops.quantized_weight import Matrix, QuantizedWeight, QuantKind
from mixtralkit.ops.stacks import expert_stacks, joined

KINDS = (torch.float32, torch.bfloat16, torch.float16, *QuantKind)
NOT_NATIVE = (QuantKind.FP8,)  # kinds that the Triton kernels have and the extension has not
ALIGNMENT = 16  # bytes that the Triton kernels load at once
Parts = tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]


class Matrices:
    """Some matrices, in order. Their values may change, in place; which matrices they are may not.

    Looking at them is slow; who uses them in every step keeps this object.
    """

    def __init__(self, matrices: Sequence[Matrix]) -> None:
        self.matrices = tuple(matrices)
        self.outputs = [weight.outputs if isinstance(weight, QuantizedWeight) else len(weight) for weight in matrices]

    @property
    def requires_grad(self) -> bool:
        """Whether gradients of any of them are wanted."""
        return any(isinstance(weight, torch.Tensor) and weight.requires_grad for weight in self.matrices)

    @cached_property
    def quantization(self) -> QuantKind | None:
        """How the first of them is quantized, None if it is not."""
        first = self.matrices[0]
        return first.kind if isinstance(first, QuantizedWeight) else None

    @cached_property
    def native_parts(self) -> Parts | None:
        """`parts` as the extension's operators take them, None where they have not that kind."""
        return None if self.quantization in NOT_NATIVE else self.parts

    @cached_property
    def parts(self) -> Parts | None:
        """Data, scales and mins of all matrices.

        None unless all matrices are of one of `KINDS`, and lie in memory row after row.
        There are no scales and mins where the matrices are not quantized.
        """
        kinds = {weight.kind if isinstance(weight, QuantizedWeight) else weight.dtype for weight in self.matrices}
        dense = [weight for weight in self.matrices if isinstance(weight, torch.Tensor)]
        if len(kinds) > 1 or kinds.isdisjoint(KINDS) or not all(weight.is_contiguous() for weight in dense):
            return None
        quantized = [weight for weight in self.matrices if isinstance(weight, QuantizedWeight)]
        if not quantized:
            return dense, [], []
        mins = [weight.mins for weight in quantized if weight.mins is not None]
        return [weight.codes for weight in quantized], [weight.scales for weight in quantized], mins

    @cached_property
    def joined(self) -> torch.Tensor | None:
        """All of them as one dense matrix without gradients, where they lie so (ops/stacks)."""
        return None if self.dense is None else joined(self.dense)

    @cached_property
    def expert_stacks(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Those of experts as two tensors without gradients, where they lie so (ops/stacks)."""
        return None if self.dense is None else expert_stacks(self.dense)

    @cached_property
    def dense(self) -> list[torch.Tensor] | None:
        """The matrices themselves, None where one is quantized."""
        dense = [weight for weight in self.matrices if isinstance(weight, torch.Tensor)]
        return dense if len(dense) == len(self.matrices) else None

    @cached_property
    def addresses(self) -> torch.Tensor | None:
        """Where the data, scales and mins of each matrix begin, int64 `[matrices, 3]`, on their device.

        The Triton kernels read them there. None where `parts` is None, and where a matrix does not begin at a
        multiple of 16 bytes. What a matrix does not have is at 0. The first use waits for the device.
        """
        if self.parts is None:
            return None
        data, *others = self.parts
        columns = [[part.data_ptr() for part in parts] or [0] * len(data) for parts in (data, *others)]
        if any(address % ALIGNMENT for column in columns for address in column):
            return None
        return torch.tensor(columns, device=data[0].device).T.contiguous()


def single(weight: Matrix, known: Matrices | None) -> Matrices:
    """`known` if it is of this one matrix, otherwise new ones of it."""
    return known if known is not None and known.matrices[0] is weight else Matrices([weight])
