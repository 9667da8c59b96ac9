"""What came of the clients' requests, counted; and what should not have come of them."""

from collections import Counter
from dataclasses import dataclass, field

SHOWN = 20  # problems that are kept, of any number


@dataclass
class Tally:
    """`counts` of what was done and answered, by name; `problems` in words, the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def count(self, name: str, by: int = 1) -> None:
        """One more of these."""
        self.counts[name] += by

    def problem(self, words: str) -> None:
        """Something that must not be."""
        self.counts["problems"] += 1
        if len(self.problems) < SHOWN:
            self.problems.append(words)
