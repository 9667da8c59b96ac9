"""From all ranks' counts to what one rank sends and where it puts what comes. A pure function."""

from collections.abc import Sequence
from dataclasses import dataclass

from mixtralkit.moe.dispatch.row_mover import Piece
from mixtralkit.moe.placement.routes import Routes


@dataclass(frozen=True)
class MovePlan:
    """`sends` are pieces of this rank's rows, sorted by expert; `receives` places among the rows of its own experts,
    sorted by local expert and then by source; `counts_e` are the rows of these experts.
    """

    sends: tuple[Piece, ...]
    receives: tuple[Piece, ...]
    counts_e: list[int]


def plan_moves(counts_WE: Sequence[Sequence[int]], routes: Routes) -> MovePlan:
    """The plan of `routes.rank`, where rank w has `counts_WE[w][e]` rows for expert e.

    Between two ranks both sides name the pieces in the order of the experts.
    """
    own = counts_WE[routes.rank]
    sends = _placed([(owner, own[expert]) for expert, owner in enumerate(routes.owner_E)])
    arriving = [
        [(source, counts_E[expert]) for source, counts_E in enumerate(counts_WE) if _comes(routes, source, expert)]
        for expert in routes.local_experts
    ]
    return MovePlan(
        sends=sends,
        receives=_placed([pair for pairs in arriving for pair in pairs]),
        counts_e=[sum(count for _, count in pairs) for pairs in arriving],
    )


def _comes(routes: Routes, source: int, expert: int) -> bool:
    return routes.owner_WE[source][expert] == routes.rank


def _placed(pairs: Sequence[tuple[int, int]]) -> tuple[Piece, ...]:
    """Pairs of a rank and a number of rows, one behind the other; pieces without rows are left out."""
    pieces, first = [], 0
    for rank, count in pairs:
        if count:
            pieces.append(Piece(rank, first, count))
        first += count
    return tuple(pieces)
