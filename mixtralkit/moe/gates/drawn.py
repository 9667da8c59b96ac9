"""A gate whose answer was drawn beforehand: to run a layer with a routing like that of a run."""

from collections.abc import Sequence

import torch
from torch import nn

from mixtralkit.moe.routing import Routing


class DrawnGate(nn.Module):
    """Sends tokens by `routing`, whatever they are; every call has to be of as many tokens."""

    def __init__(self, routing: Routing) -> None:
        super().__init__()
        self._routing = routing

    def forward(self, x_TD: torch.Tensor) -> Routing:
        """The routing of every token of `x_TD`."""
        return self._routing


def draw_routing(
    share_E: Sequence[float], tokens: int, top_k: int, generator: torch.Generator, device: torch.device
) -> Routing:
    """Different experts for each token, in all as many rows of each expert as its share of the rows says.

    By systematic sampling: the experts lie one after the other on a line, each as long as its share of `top_k`, and a
    token takes those at u, u + 1, and so on. The tokens' u are spread evenly over 0 to 1, so that the counts are right
    to the row; no expert is longer than 1, because it gets at most one row of a token.
    """
    line_E = torch.tensor(share_E, dtype=torch.float64).cumsum(0)
    line_E = line_E * (top_k / line_E[-1])
    begin = torch.rand(1, generator=generator, dtype=torch.float64)
    spread_T = torch.randperm(tokens, generator=generator)
    u_T = (spread_T + begin) / max(tokens, 1)
    ids_TK = torch.searchsorted(line_E, u_T[:, None] + torch.arange(top_k, dtype=torch.float64), right=True)
    ids_TK = ids_TK.clamp(max=len(share_E) - 1).to(device)  # the line may end a rounding before `top_k`
    return Routing(ids_TK, torch.full(ids_TK.shape, 1 / top_k, device=device))
