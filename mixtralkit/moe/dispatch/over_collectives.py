"""What the dispatches over torch's process group have in common: what takes their place in a recorded step."""

from functools import cached_property

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.collective_mover import CollectiveMover
from mixtralkit.moe.dispatch.fixed import FixedDispatch
from mixtralkit.moe.placement.routes import Routes


class OverCollectives(Dispatch):
    """Rows of a layer with these `routes` travel over `collectives`, in sizes that the device has to be asked for."""

    def __init__(self, collectives: Collectives, routes: Routes) -> None:
        self._collectives = collectives
        self._routes = routes

    @cached_property
    def recordable(self) -> Dispatch:
        """An exchange over the same group in sizes that the host knows beforehand."""
        return FixedDispatch(CollectiveMover(self._collectives), self._routes, self._collectives.device)
