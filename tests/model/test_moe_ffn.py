"""The plain mixture of experts against the oracle's loop over tokens, in float64 throughout."""

import pytest
import torch

from mixtralkit.model.moe_ffn import MoeFfn
from tests.reference import mixtral


@pytest.mark.parametrize("tokens", [0, 1, 10])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (3, 1), (3, 3), (1, 1)])
@torch.no_grad()
def test_it_is_the_weighted_sum_of_the_chosen_experts(experts: int, top_k: int, tokens: int) -> None:
    """Weights and sum are float32 by contract, so a float64 model agrees to float32's eps on results of size 1."""
    ffn = MoeFfn(dim=12, hidden_dim=20, num_experts=experts, top_k=top_k).double()
    for weight in ffn.parameters():
        weight.normal_(0, weight.shape[1] ** -0.5)
    x = torch.randn(tokens, 12, dtype=torch.float64)
    part = {f"feed_forward.{name}": weight for name, weight in ffn.state_dict().items()}
    shape = mixtral.Shape(num_layers=1, num_heads=1, num_kv_heads=1, head_dim=2, top_k=top_k)
    torch.testing.assert_close(ffn.mixture(x), mixtral.mixture(part, shape, x), rtol=0, atol=1e-6)


@torch.no_grad()
def test_all_tokens_may_choose_one_expert() -> None:
    ffn = MoeFfn(dim=4, hidden_dim=6, num_experts=3, top_k=1)
    for weight in ffn.parameters():
        weight.normal_(0, 0.5)
    ffn.gate.weight.zero_()
    ffn.gate.weight[2] = 1.0
    x = torch.rand(5, 4)
    assert torch.equal(ffn.mixture(x), ffn.experts[2](x))
