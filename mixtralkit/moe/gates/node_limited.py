"""The topology-aware gate: of a batch's rows, only a share leaves the node.

FasterMoE's idea (He et al., PPoPP 2022): links between nodes are the slow ones, so where too many rows
would take them, the least certain choices fall on the next best expert of the own node instead. A token's experts then
depend on the rest of its batch: the text changes with the batch, the number of ranks and the placement.
"""

import math

import torch
from torch import nn

from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.log import get_logger, notice
from mixtralkit.moe.gates.topk import TopKGate
from mixtralkit.moe.placement.plan import Placement
from mixtralkit.moe.routing import Routing
from mixtralkit.ops.gate import topk_gate
from mixtralkit.ops.linear import linear

_logger = get_logger(__name__)


class NodeLimitedGate(TopKGate):
    """Sends each token to its best `top_k` experts, but at most `outgoing_fraction` of a call's rows off the node.

    With a fraction of 1 or more it is `TopKGate`, bit for bit.
    """

    def __init__(self, weight_ED: nn.Parameter, top_k: int, on_node_E: torch.Tensor, outgoing_fraction: float) -> None:
        """See `set_on_node` for `on_node_E`. Raises `UsageError` for a fraction below 0, and as `set_on_node` does."""
        super().__init__(weight_ED, top_k)
        if not outgoing_fraction >= 0:
            raise UsageError(f"the outgoing fraction is {outgoing_fraction}; it must be a number from 0 to 1")
        self._outgoing_fraction = outgoing_fraction
        self.set_on_node(on_node_E)
        if outgoing_fraction < 1:
            notice(
                _logger,
                f"at most {outgoing_fraction:g} of a batch's rows leave their node, others go to another expert: this "
                "changes the model, and its text depends on what else is in the batch",
            )

    def set_on_node(self, on_node_E: torch.Tensor) -> None:
        """From the next call on, the experts of `on_node_E` (bool, on the device of the tokens) are on this node.

        To be called when replicas are switched. Raises `UsageError` if they are fewer than a token needs.
        """
        held = int(on_node_E.sum())
        if held < self.top_k:
            raise UsageError(
                f"an outgoing fraction needs {self.top_k} experts on every node, as many as a token goes to, and this "
                f"rank's node holds {held} of {on_node_E.numel()}; place more there, or leave the fraction out"
            )
        self._on_node_E = on_node_E

    def forward(self, x_TD: torch.Tensor) -> Routing:
        """The routing of every token of `x_TD`, which depends on the other tokens."""
        if self._outgoing_fraction >= 1:
            return super().forward(x_TD)
        most = math.floor(self._outgoing_fraction * x_TD.shape[0] * self.top_k)
        return Routing(*limit_to_node(linear(x_TD, self.weight), self.top_k, self._on_node_E, most))


def limit_to_node(
    logits_TE: torch.Tensor, top_k: int, on_node_E: torch.Tensor, most: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`topk_gate` with at most `most` of the T*K rows to experts that are not of `on_node_E` (bool).

    Those with the highest probability keep their expert (softmax over all experts, float32; of equal ones the lower
    token, then the lower k). Each other row falls on the best expert of the node that its token has not chosen yet.
    Returns what `topk_gate` does, with the weights of the experts that it came to. Does not wait for the device.
    """
    expert_ids_TK, _ = topk_gate(logits_TE, top_k)
    keeps_TK = _most_probable(logits_TE, expert_ids_TK, ~on_node_E[expert_ids_TK], most)
    allowed_TE = torch.zeros_like(logits_TE, dtype=torch.bool).scatter(1, expert_ids_TK, keeps_TK) | on_node_E
    # What a token chose and may keep is still its best, and what it lost is made up for from the node.
    return topk_gate(logits_TE.masked_fill(~allowed_TE, -math.inf), top_k)


def experts_on_node(placement: Placement, topology: Topology, rank: int, device: torch.device) -> torch.Tensor:
    """Which experts of a layer some rank of `rank`'s node holds: bool `[E]` on `device`."""
    near = topology.ranks_of_node(topology.node_of_rank[rank])
    held = {expert for other in near for expert in placement.experts_of(other)}
    return torch.tensor([expert in held for expert in range(placement.num_experts)], device=device)


def _most_probable(
    logits_TE: torch.Tensor, expert_ids_TK: torch.Tensor, among_TK: torch.Tensor, most: int
) -> torch.Tensor:
    """Marks the `most` rows with the highest probability, of those `among` (bool `[T, K]`) before any others."""
    chances_TK = torch.softmax(logits_TE.detach().float(), dim=-1).gather(1, expert_ids_TK)
    ranked_N = torch.where(among_TK, chances_TK, -1.0).flatten().argsort(descending=True, stable=True)
    marked_N = torch.zeros_like(ranked_N, dtype=torch.bool)
    return marked_N.index_fill(0, ranked_N[:most], True).view(among_TK.shape)
