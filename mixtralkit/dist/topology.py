"""Which ranks are on which node. A node is a host: what launchers were told does not matter."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Topology:
    """`node_of_rank[rank]` numbers the nodes in the order of their lowest rank, from 0."""

    node_of_rank: tuple[int, ...]

    @property
    def num_nodes(self) -> int:
        """How many nodes there are."""
        return max(self.node_of_rank) + 1

    def ranks_of_node(self, node: int) -> tuple[int, ...]:
        """The ranks on `node`, ascending."""
        return tuple(rank for rank, at in enumerate(self.node_of_rank) if at == node)

    def local_index(self, rank: int) -> int:
        """The place of `rank` among the ranks of its node, from 0."""
        return self.ranks_of_node(self.node_of_rank[rank]).index(rank)


def topology_of(host_ids: Sequence[str]) -> Topology:
    """The topology of ranks whose hosts are `host_ids`, one per rank; equal strings are one host."""
    node_of_host = {host: node for node, host in enumerate(dict.fromkeys(host_ids))}
    return Topology(tuple(node_of_host[host] for host in host_ids))
