"""Room for keys and values: what a user asks for is there, or is refused with the numbers."""

from pathlib import Path

import pytest

from mixtralkit import LLM, SamplingParams
from mixtralkit.errors import LaunchError

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
