"""Room for keys and values: what a user asks for is there, or is refused with the numbers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mixtralkit import LLM, SamplingParams
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.errors import LaunchError
from mixtralkit.session import kv_room
from mixtralkit.session.kv_room import with_kv_room
from tests.random_model import TINY, random_model

DEMO = Path(__file__).parents[2] / "demo" / "shakespeare"
CONTEXT = 512
FIRST, SECOND = [1, *[50] * 400], [1, *[60] * 400]


@pytest.mark.parametrize(("kv_tokens", "kept"), [(None, 0), (2 * CONTEXT, 400)])
def test_room_beyond_the_running_requests_keeps_beginnings(kv_tokens: int | None, kept: int) -> None:
    """One request at a time fills the default room of one context, so the second pushes the first one's beginning out.

    Of 401 tokens the 25 full blocks of 16 are shared.
    """
    with LLM(DEMO, batch_size=1, kv_tokens=kv_tokens) as llm:
        assert llm._engine.kv_tokens == (kv_tokens or CONTEXT)
        answers = [llm.generate(prompt, SamplingParams(max_tokens=1))[0] for prompt in (FIRST, SECOND, FIRST)]
    assert [answer.cached_tokens for answer in answers[:2]] == [0, 0]
    assert (answers[2].cached_tokens >= kept) if kept else (answers[2].cached_tokens < 400)
    assert answers[2].tokens == answers[0].tokens


def test_more_than_the_memory_holds_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        LaunchError, match="keys and values of 1,000,000,000,000 tokens take .* are free .* --kv-tokens"
    ):
        LLM(DEMO, kv_tokens=10**12)


def test_a_gpu_is_not_filled_to_the_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded steps and activations need a tenth; a CPU's memory may all be asked for."""
    model = random_model(TINY)
    monkeypatch.setattr(kv_room, "free_memory", lambda device: 1000 * model.kv_bytes_per_token)
    alone = Collectives(None, torch.device("cpu"))
    for device, most in (("cpu", 1000), ("cuda", 900)):
        group: Any = SimpleNamespace(
            device=torch.device(device), topology=Topology((0,)), node=0, rank=0, control=alone
        )
        assert with_kv_room(EngineLimits(kv_tokens=most), group, model).kv_tokens == most
        with pytest.raises(LaunchError, match=f"keys and values of {most + 1:,} tokens"):
            with_kv_room(EngineLimits(kv_tokens=most + 1), group, model)
