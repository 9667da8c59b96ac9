"""How many rows each dispatch sends between which ranks, and over which links they go. Pure data and functions."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from mixtralkit.dist.topology import Topology
from mixtralkit.moe.placement.relays import relays

Sent = tuple[int, int, float]  # from this rank, to that one, so many rows
ROOM = 9  # rows of all-gather's first message: its head, and 8 tokens (moe/dispatch/token_gather.py)


def rows_sent(
    demand_WE: Sequence[Sequence[float]], owner_WE: Sequence[Sequence[int]], dispatch: str, top_k: int
) -> list[Sent]:
    """The rows that `dispatch` takes to the experts; as many results come back the other way.

    `demand_WE` says how many rows each rank has for each expert, `owner_WE` where it sends them. Collective sends each
    row to its owner; peer a token to a rank once, however many of its experts are there, which is predicted as the
    lesser of rows and tokens; all_gather every token to every other rank. No pair has the same rank twice.
    """
    tokens_W = [sum(demand_E) / top_k for demand_E in demand_WE]
    if dispatch == "all_gather":
        ranks = range(len(demand_WE))
        return [(source, rank, tokens_W[source]) for source in ranks for rank in ranks if source != rank]
    sent: defaultdict[tuple[int, int], float] = defaultdict(float)
    for source, (demand_E, owner_E) in enumerate(zip(demand_WE, owner_WE, strict=True)):
        for rows, owner in zip(demand_E, owner_E, strict=True):
            if owner != source:
                sent[source, owner] += rows
    if dispatch == "peer":
        return [(source, owner, min(rows, tokens_W[source])) for (source, owner), rows in sent.items()]
    return [(source, owner, rows) for (source, owner), rows in sent.items()]


def relayed(
    demand_WE: Sequence[Sequence[float]],
    owner_WE: Sequence[Sequence[int]],
    topology: Topology,
    top_k: int,
    *,
    summed: bool,
) -> tuple[list[Sent], list[Sent]]:
    """What hierarchical sends there, and what it brings back, told as if it went there too.

    A token goes to a node once: of a rank whose rows go there in the share p that is 1 - (1 - p)^K of its tokens. From
    the relay each row goes to its owner. What a relay takes from other nodes it also moves once in its own memory,
    which counts as what it sends to itself. Results come as rows, but `summed` from relay to source one for a token.
    """
    relay_WM, between, rows_between, within = relays(topology), [], [], []
    for source, (demand_E, owner_E) in enumerate(zip(demand_WE, owner_WE, strict=True)):
        rows_to: defaultdict[int, float] = defaultdict(float)
        for rows, owner in zip(demand_E, owner_E, strict=True):
            relay = relay_WM[source][topology.node_of_rank[owner]]
            rows_to[relay] += rows
            if owner != relay:
                within.append((relay, owner, rows))
        total = sum(demand_E)
        for relay, rows in rows_to.items():
            if relay != source and rows:
                tokens = total / top_k * (1 - (1 - rows / total) ** top_k)
                between.append((source, relay, tokens))
                rows_between.append((source, relay, rows))
                within.append((relay, relay, tokens))
    return between + within, (between if summed else rows_between) + within


def rows_of_ranks(demand_WE: Sequence[Sequence[float]], owner_WE: Sequence[Sequence[int]]) -> list[float]:
    """The rows that each rank computes, when `demand_WE[w][e]` are sent to rank `owner_WE[w][e]`."""
    rows_W = [0.0] * len(demand_WE)
    for demand_E, owner_E in zip(demand_WE, owner_WE, strict=True):
        for demand, owner in zip(demand_E, owner_E, strict=True):
            rows_W[owner] += demand
    return rows_W


def with_room(sent: Iterable[Sent]) -> list[Sent]:
    """What all-gather sends on the way out: the room for the first tokens travels whether there are so many or not."""
    return [(source, rank, max(rows, ROOM)) for source, rank, rows in sent]


def link_rows(sent: Iterable[Sent], topology: Topology) -> tuple[list[float], list[float]]:
    """What goes over the links: out of each rank and then into each rank within its node, `[2W]`; and out of each node
    and then into each node, `[2 x nodes]`. A row counts within a node or between two, never both.
    """
    node_of_rank = topology.node_of_rank
    ranks, nodes = len(node_of_rank), topology.num_nodes
    within, between = [0.0] * (2 * ranks), [0.0] * (2 * nodes)
    for source, rank, rows in sent:
        source_node, node = node_of_rank[source], node_of_rank[rank]
        if source_node == node:
            within[source] += rows
            within[ranks + rank] += rows
        else:
            between[source_node] += rows
            between[nodes + node] += rows
    return within, between
