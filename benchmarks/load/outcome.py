"""What became of one server."""

from dataclasses import dataclass

from benchmarks.load.overload import Crowd
from benchmarks.load.storm import Aftermath, Storm
from benchmarks.load.verdicts import Verdict, overload_verdicts, storm_verdicts


@dataclass(frozen=True)
class Outcome:
    """What became of a server with so many ranks and these flags."""

    ranks: int
    flags: tuple[str, ...]
    storm: Storm
    aftermath: Aftermath
    crowds: tuple[Crowd, Crowd]

    @property
    def verdicts(self) -> list[Verdict]:
        """Of all that was promised."""
        return [*storm_verdicts(self.aftermath), *overload_verdicts(self.crowds)]
