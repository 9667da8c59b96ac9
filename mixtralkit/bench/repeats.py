"""Several measurements of one thing: the median, and how far they lie apart."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Repeats:
    """The values of all repeats, at least one, in the order in which they were measured."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, or the mean of the two in the middle."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest."""
        return max(self.values)

    def document(self) -> dict[str, float | list[float]]:
        """As JSON."""
        return {"median": self.median, "min": self.least, "max": self.most, "each": list(self.values)}
