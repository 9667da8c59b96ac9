"""Drawn routings: the rows of each expert are as many as asked for, and a token's experts differ."""

import pytest
import torch

from mixtralkit.moe.gates.drawn import DrawnGate, draw_routing

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share_E", [(0.25,) * 4, (0.5, 0.3, 0.15, 0.05), (0.5, 0.5, 0.0, 0.0), (3, 1, 2, 2)])
def test_rows_are_as_many_as_asked_for(share_E: tuple[float, ...], seed: int) -> None:
    """To less than a row at each end of an expert's part of the line; and a token goes nowhere twice."""
    tokens, top_k = 100, 2
    ids_TK = draw_routing(share_E, tokens, top_k, torch.Generator().manual_seed(seed), CPU).expert_ids_TK
    assert ids_TK.shape == (tokens, top_k)
    assert bool((ids_TK[:, 0] != ids_TK[:, 1]).all())
    rows_E = torch.bincount(ids_TK.flatten(), minlength=4)
    wanted_E = torch.tensor(share_E) / sum(share_E) * tokens * top_k
    assert float((rows_E - wanted_E).abs().max()) <= 2


def test_one_token_and_none() -> None:
    """A single token goes to experts by chance, and so to each in the end; nothing is a routing too."""
    generator = torch.Generator().manual_seed(0)
    met = {int(i) for _ in range(64) for i in draw_routing((0.25,) * 4, 1, 2, generator, CPU).expert_ids_TK[0]}
    assert met == {0, 1, 2, 3}
    assert draw_routing((0.25,) * 4, 0, 2, generator, CPU).expert_ids_TK.shape == (0, 2)


def test_parts_of_the_tokens_have_about_the_same_rows() -> None:
    """So that cutting a step does not meet all the rows of an expert in one part: neighbours go different ways."""
    ids_TK = draw_routing((0.25,) * 4, 400, 2, torch.Generator().manual_seed(1), CPU).expert_ids_TK
    for part in ids_TK.chunk(4):
        rows_E = torch.bincount(part.flatten(), minlength=4)
        assert int(rows_E.min()) > 30  # of 50; by chance alone less than one in a million parts has fewer


def test_the_gate_answers_what_was_drawn() -> None:
    routing = draw_routing((0.5, 0.5), 3, 2, torch.Generator().manual_seed(0), CPU)
    assert DrawnGate(routing)(torch.zeros(3, 8)) is routing
    assert routing.weights_TK.tolist() == [[0.5, 0.5]] * 3
