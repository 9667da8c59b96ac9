"""What each possible replica of one layer is worth, kept up to date as replicas are added. Pure, no communication."""

from collections.abc import Callable

from mixtralkit.moe.placement.layer_load import LayerLoad
from mixtralkit.moe.placement.replica import Replica

_ALIKE = 0.01  # times that differ by this part of them are alike: predictions are no better than that


class LayerSearch:
    """`candidates` are all replicas that there could be of experts that have rows.

    A candidate is worth the seconds a step by which it lowers the pressure, less its price.

    What it changes is found once, and again when its own expert gets a replica; other experts' replicas matter to that
    only in the choice among equally near owners. What the change saves is found again after every replica.
    """

    def __init__(self, layer: int, load: LayerLoad, price: Callable[[Replica], float]) -> None:
        self._load = load
        self.candidates = tuple(Replica(layer, *pair) for pair in load.candidates())
        self._changes = {replica: load.change(replica.expert, replica.rank) for replica in self.candidates}
        self._prices = {replica: price(replica) for replica in self.candidates}
        self._added: list[Replica] = []
        self._times = [load.time]
        self._find_worths()

    def best(self) -> tuple[float, Replica] | None:
        """The candidate that is worth most, of equals the lowest: minus its worth, and it. None when none is left."""
        return min(((-worth, replica) for replica, worth in self._worths.items()), default=None)

    def refuse(self, replica: Replica) -> None:
        """Have `replica` no more among the candidates."""
        del self._changes[replica], self._worths[replica]

    def add(self, replica: Replica) -> None:
        """Have `replica`, which was a candidate."""
        del self._changes[replica]
        self._load.add(replica.expert, replica.rank)
        self._added.append(replica)
        self._times.append(self._load.time)
        for other in self._changes:
            if other.expert == replica.expert:
                self._changes[other] = self._load.change(other.expert, other.rank)
        self._find_worths()

    def outcome(self) -> list[Replica]:
        """The replicas that were added until a step took about the least time, up to the last such point.

        Less pressure is not always less time: the last replicas may have been half of a change for the better.
        """
        longest = min(self._times[0], min(self._times) * (1 + _ALIKE))
        return self._added[: max(count for count, time in enumerate(self._times) if time <= longest)]

    def _find_worths(self) -> None:
        pressure = self._load.pressure
        self._worths = {
            replica: pressure - self._load.pressure_after(change) - self._prices[replica]
            for replica, change in self._changes.items()
        }
