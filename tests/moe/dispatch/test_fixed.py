"""What the battery does not show of the fixed dispatch: that it reads nothing on the host, and how much it sends."""

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.moe.dispatch.all_gather import AllGatherDispatch
from mixtralkit.moe.dispatch.collective import CollectiveDispatch
from mixtralkit.moe.dispatch.collective_mover import CollectiveMover
from mixtralkit.moe.dispatch.fixed import FixedDispatch, _slots
from mixtralkit.moe.dispatch.hierarchical import HierarchicalDispatch
from mixtralkit.moe.dispatch.over_collectives import OverCollectives
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.moe.routing import Routing
from tests.host_reads import HostReads
from tests.ranks import run_ranks

CPU = torch.device("cpu")


@pytest.mark.parametrize(("experts", "slots"), [(4, 2), (2, 1)])
def test_no_number_is_read_on_the_host(experts: int, slots: int) -> None:
    """Else a step could not be recorded; shapes are the same for any routing.

    Where ranks have one expert each, a token's two results come from two ranks, and a block has one slot for it.
    """
    for found, shape, counts in run_ranks(2, _reads, experts):
        assert found == []
        assert shape == (2 * 3 * slots, 8)  # ranks, tokens, slots a token; and the width
        assert counts is torch.int64


def _reads(collectives: Collectives, experts: int) -> tuple[list[str], tuple[int, ...], torch.dtype]:
    routes = routes_of(even_split(experts, 2), Topology((0, 0)), collectives.rank)
    dispatch = FixedDispatch(CollectiveMover(collectives), routes, CPU)
    assert not dispatch.waits_for_device
    routing = Routing(torch.tensor([[0, 3], [1, 0], [2, 3]]) % experts, torch.full((3, 2), 0.5))
    with torch.inference_mode(), HostReads() as reads:
        rows, counts, handle = dispatch.dispatch(torch.randn(3, 8), routing)
        dispatch.combine(rows, handle)
    assert isinstance(counts, torch.Tensor)
    # Where torch sorts, it counts with an operator that looks at the numbers; on GPUs a kernel of ours does all of it.
    return [name for name in reads.found if name != "bincount"], tuple(rows.shape), counts.dtype


def test_slots_by_hand() -> None:
    """One rank, three tokens of top 3: those of a token's choices that have one owner follow each other."""
    owners = torch.tensor([[[0, 1, 0], [1, 1, 1], [0, 1, 2]]])
    assert _slots(owners, block=9).tolist() == [[[0, 0, 1], [3, 4, 5], [6, 6, 6]]]
    assert _slots(owners[:, :, :1], block=3).tolist() == [[[0], [1], [2]]]


@pytest.mark.parametrize("kind", [CollectiveDispatch, AllGatherDispatch, HierarchicalDispatch])
def test_it_takes_the_place_of_those_over_torchs_groups(kind: type[OverCollectives]) -> None:
    """Always the same one: graphs read its tensors."""
    dispatch = kind(Collectives(None, CPU), routes_of(even_split(4, 1), Topology((0,)), 0))
    assert dispatch.waits_for_device
    assert isinstance(dispatch.recordable, FixedDispatch)
    assert dispatch.recordable is dispatch.recordable
