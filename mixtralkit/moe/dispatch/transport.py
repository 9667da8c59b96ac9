"""What the dispatches of all layers share: the collectives, the memory of the peer exchange, NCCL's communicator."""

from functools import cached_property
from weakref import WeakValueDictionary

from mixtralkit.dist.collectives import Collectives
from mixtralkit.moe.dispatch.all_gather import AllGatherDispatch
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.dispatch.collective import CollectiveDispatch
from mixtralkit.moe.dispatch.cuda_peer import CudaPeerDispatch
from mixtralkit.moe.dispatch.cuda_peer_exchange import CudaPeerExchange
from mixtralkit.moe.dispatch.hierarchical import HierarchicalDispatch
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.dispatch.nccl import NcclDispatch
from mixtralkit.moe.dispatch.nccl_exchange import NcclExchange
from mixtralkit.moe.dispatch.peer import PeerDispatch
from mixtralkit.moe.dispatch.peer_exchange import PeerExchange, slot_bytes_for
from mixtralkit.moe.placement.routes import Routes


class Transport:
    """Makes dispatches, one a layer and placement. All ranks ask for the same ones in the same order.

    `slot_bytes`, a multiple of 64, bounds what is under way between two ranks of the peer exchange.
    """

    def __init__(self, collectives: Collectives, num_experts: int, slot_bytes: int | None = None) -> None:
        self._collectives = collectives
        self._num_experts = num_experts
        self._slot_bytes = slot_bytes or slot_bytes_for(collectives.size)
        self._made: WeakValueDictionary[tuple[str, Routes], Dispatch] = WeakValueDictionary()

    def dispatch(self, name: str, routes: Routes) -> Dispatch:
        """The dispatch called `name`, one of choose.py's names but for auto, of a layer with these `routes`.

        Where no row of any rank leaves it, it is the local one, whatever was asked for. Layers with the same routes get
        the same object.
        """
        dispatch = self._made.get((name, routes)) or self._make(name, routes)
        self._made[name, routes] = dispatch
        return dispatch

    def _make(self, name: str, routes: Routes) -> Dispatch:
        if routes.stays_home:
            return LocalDispatch(routes.placement.num_experts)
        if name == PeerDispatch.name and self._collectives.device.type == "cuda":
            return CudaPeerDispatch(self._cuda_peer_exchange, routes)
        if name == PeerDispatch.name:
            return PeerDispatch(self._peer_exchange, routes)
        if name == NcclDispatch.name:
            return NcclDispatch(self._nccl_exchange, routes, self._collectives.device)
        kinds = {kind.name: kind for kind in (CollectiveDispatch, AllGatherDispatch, HierarchicalDispatch)}
        return kinds[name](self._collectives, routes)

    @cached_property
    def _peer_exchange(self) -> PeerExchange:
        return PeerExchange(self._collectives, self._num_experts, self._slot_bytes)

    @cached_property
    def _nccl_exchange(self) -> NcclExchange:
        return NcclExchange(self._collectives, self._collectives.device)

    @cached_property
    def _cuda_peer_exchange(self) -> CudaPeerExchange:
        return CudaPeerExchange(self._collectives, self._num_experts)
