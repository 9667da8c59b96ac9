"""The requests that are timed: recorded steps where there can be some, and the same work either way."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mixtralkit.bench.random_requests import RandomRequests
from mixtralkit.dist.collectives import Collectives
from mixtralkit.ops import library
from tests.random_model import TINY, random_model, spread

CONFIG = replace(TINY, num_layers=1, head_dim=16, num_heads=2, num_kv_heads=1, num_experts=3)


@torch.inference_mode()
def test_a_recorded_step_does_the_work_of_the_step(kernels: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests give their rows to experts, and nothing else is counted."""
    monkeypatch.setattr(library, "ops_if_available", lambda: None)
    model = random_model(CONFIG).to(kernels)
    load = spread(model, "local", Collectives(None, kernels))
    group = SimpleNamespace(device=kernels, world_size=1, rank=0, control=Collectives(None, torch.device("cpu")))
    subject: Any = SimpleNamespace(model=model, group=group, share=lambda total: total)
    requests = RandomRequests(subject, total=2, context=20)
    requests.record()
    assert requests.recorded
    for recorded in (False, True):
        before = load.rows_LE.sum()
        requests.run(requests.draw(1), 3, recorded=recorded)
        assert load.rows_LE.sum() - before == 2 * CONFIG.top_k


def test_on_a_cpu_nothing_is_recorded() -> None:
    model = random_model(CONFIG)
    cpu = torch.device("cpu")
    group = SimpleNamespace(device=cpu, world_size=1, rank=0, control=Collectives(None, cpu))
    subject: Any = SimpleNamespace(model=model, group=group, share=lambda total: total)
    requests = RandomRequests(subject, total=1, context=20)
    requests.record()
    assert not requests.recorded
