"""Token blocks to learn from, and the held-out tokens to be measured on.

Every block starts with BOS, as every prompt does, wherever in the text it was cut out.
"""

from dataclasses import dataclass

import torch

from mixtralkit.errors import UsageError


@dataclass(frozen=True)
class Blocks:
    """B blocks of T tokens to predict, and what each is predicted from: int64 `[B, T]` both."""

    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor

    def split(self, size: int) -> list["Blocks"]:
        """Parts of `size` blocks, the last of what remains."""
        parts = zip(self.inputs_BT.split(size), self.targets_BT.split(size), strict=True)
        return [Blocks(inputs, targets) for inputs, targets in parts]

    def share(self, rank: int, ranks: int) -> "Blocks":
        """The blocks of one of `ranks` ranks."""
        return Blocks(self.inputs_BT[rank::ranks], self.targets_BT[rank::ranks])


@dataclass(frozen=True)
class ShuffledText:
    """A text of N tokens (int64), served in blocks of `length` in a shuffled order.

    Which blocks a step gets follows from `seed` and the step alone, so an interrupted training goes on with the same
    data. Each pass over the text has a new order and cuts the blocks at other places.
    """

    tokens_N: torch.Tensor
    length: int
    bos_id: int
    seed: int

    def __post_init__(self) -> None:
        if self.blocks_per_pass < 1:
            raise UsageError(
                f"the text has {self.tokens_N.numel()} tokens; blocks of {self.length} need at least {2 * self.length}"
            )

    @property
    def blocks_per_pass(self) -> int:
        """How many blocks one pass over the text has, wherever it is cut."""
        return (self.tokens_N.numel() - self.length) // self.length

    def batch(self, step: int, size: int) -> Blocks:
        """The `size` blocks of a step, counted from 0."""
        starts = [self._start(number) for number in range(step * size, (step + 1) * size)]
        return _with_inputs(torch.stack([self.tokens_N[start : start + self.length] for start in starts]), self.bos_id)

    def _start(self, number: int) -> int:
        passes, place = divmod(number, self.blocks_per_pass)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + passes)
        offset = int(torch.randint(self.length, (), generator=generator))
        order = torch.randperm(self.blocks_per_pass, generator=generator)
        return offset + int(order[place]) * self.length


def held_out_batches(tokens_N: torch.Tensor, length: int, bos_id: int, size: int) -> list[Blocks]:
    """Every token once as a target, in batches of up to `size` blocks of `length`; the last block may be shorter."""
    whole = tokens_N.numel() // length * length
    batches = [*tokens_N[:whole].view(whole // length, length).split(size), tokens_N[None, whole:]]
    return [_with_inputs(targets_BT, bos_id) for targets_BT in batches if targets_BT.numel()]


def _with_inputs(targets_BT: torch.Tensor, bos_id: int) -> Blocks:
    first = torch.full_like(targets_BT[:, :1], bos_id)
    return Blocks(torch.cat([first, targets_BT[:, :-1]], dim=1), targets_BT)
