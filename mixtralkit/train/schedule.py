"""The learning rate of each step."""

import math
from dataclasses import dataclass

from mixtralkit.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up to `peak` over `warmup` steps, a plateau, half a cosine down to 0 over the last `decay`.

    Until the decay begins, the rate does not depend on `steps`: a training on the plateau can be given another end
    and is then the same as if it had had that end from the start. `decay = steps - warmup` is a plain cosine.
    """

    peak: float
    steps: int
    warmup: int
    decay: int

    def __post_init__(self) -> None:
        if self.warmup + self.decay > self.steps:
            raise UsageError(
                f"{self.warmup} steps of warm-up and {self.decay} of decay do not fit into {self.steps} steps"
            )

    def rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 0."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        left = self.steps - step
        if left > self.decay:
            return self.peak
        return self.peak * 0.5 * (1 - math.cos(math.pi * left / self.decay))
