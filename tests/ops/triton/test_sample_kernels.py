"""The choice of tokens in kernels: by the definition, and what the host draws."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from mixtralkit.ops.sample import GREEDY, Settings, sample, settings_of
from tests.ops.sampled import EDGES, check_token, host_token, problems

SAMPLED = Settings(1.0, 0.1, 2, 0.5, 0.5)


@pytest.mark.parametrize("block", [16, 4096])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the same for all problems
@given(problem=problems(100))
def test_any_row_and_settings(kernels: torch.device, block: int, problem: tuple[torch.Tensor, Settings]) -> None:
    """Of several blocks and of one; as the host draws."""
    from mixtralkit.ops.triton import sample_kernels

    logits_V, chosen = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_kernels, "chosen", lambda arch, name: {"block": block, "block_a_warp": 256})
        (token,) = sample(logits_V[None].to(kernels), settings_of([chosen]).to(kernels)).tolist()
    check_token(logits_V, chosen, token)
    assert token == host_token(logits_V, chosen)


def test_shares_end_where_they_should(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tokens all alike, whose sums are exact: also at the ends of blocks the number falls on the next one."""
    from mixtralkit.ops.triton import sample_kernels

    monkeypatch.setattr(sample_kernels, "chosen", lambda arch, name: {"block": 16, "block_a_warp": 256})
    rows = [Settings(1.0, 0.0, 0, 1.0, place / 64) for place in (0, 15, 16, 17, 32, 63)]
    tokens_B = sample(torch.zeros(len(rows), 64, device=kernels), settings_of(rows).to(kernels))
    assert tokens_B.tolist() == [0, 15, 16, 17, 32, 63]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy says so, in the interpreter
@pytest.mark.parametrize("edge", EDGES)
def test_edges(kernels: torch.device, edge: str) -> None:
    logits_BV, rows = EDGES[edge]
    tokens_B = sample(logits_BV.to(kernels), settings_of(rows).to(kernels))
    for logits_V, chosen, token in zip(logits_BV, rows, tokens_B.tolist(), strict=True):
        check_token(logits_V, chosen, token)


@pytest.mark.parametrize("chosen", [GREEDY, SAMPLED])
def test_rows_that_are_no_numbers(kernels: torch.device, chosen: Settings) -> None:
    """Wherever it is in the row; NaN before infinities."""
    rows = torch.zeros(4, 600, device=kernels)
    rows[0, 550], rows[0, 3] = math.nan, math.inf
    rows[1, 599] = math.inf
    rows[2] = -math.inf
    rows[3, ::2] = -math.inf
    assert sample(rows, settings_of([chosen] * 4).to(kernels)).tolist() == [-1, -2, -3, 1]


def test_no_rows(kernels: torch.device) -> None:
    assert sample(torch.empty(0, 7, device=kernels), settings_of([]).to(kernels)).shape == (0,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU has graphs")
def test_a_graph_takes_the_settings_of_each_replay(kernels: torch.device) -> None:
    logits_BV = torch.randn(3, 32000, device=kernels)
    settings_B5 = settings_of([GREEDY] * 3).to(kernels)
    sample(logits_BV, settings_B5)  # compiled before it is recorded
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tokens_B = sample(logits_BV, settings_B5)
    for uniform in (0.1, 0.9):
        rows = [Settings(1.0, 0.0, 0, top_p, uniform) for top_p in (1.0, 0.9, 0.5)]
        settings_B5.copy_(settings_of(rows))
        graph.replay()
        assert tokens_B.tolist() == [host_token(row, own) for row, own in zip(logits_BV.cpu(), rows, strict=True)]
