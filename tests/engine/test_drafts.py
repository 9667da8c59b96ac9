"""Prompt lookup, against a search by the definition."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtralkit.engine.drafts import LONGEST, PromptLookup


def _by_definition(tokens: Sequence[int], most: int) -> list[int]:
    """The longest end first, its latest earlier occurrence, and what followed, in a text that goes on repeating."""
    for length in range(min(LONGEST, len(tokens) - 1), 0, -1):
        for after in range(len(tokens) - 1, length - 1, -1):
            if tokens[after - length : after] == tokens[-length:]:
                text = list(tokens)
                for i in range(most):
                    text.append(text[after + i])
                return text[len(tokens) :]
    return []


@pytest.mark.parametrize(
    ("tokens", "guess"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1, 2]),
        ([1, 2, 3, 7, 2, 3, 8, 9, 2, 3], [8, 9, 2, 3]),  # the latest occurrence
        ([1, 2, 3, 7, 9, 3, 8, 1, 2, 3], [7, 9, 3, 8]),  # but a longer one before
        ([5, 6, 5, 6, 5, 6], [5, 6, 5, 6]),  # goes on repeating
        ([7, 7], [7, 7, 7, 7]),
        ([1, 2, 3], []),
        ([4], []),
    ],
)
def test_guesses(tokens: list[int], guess: list[int]) -> None:
    assert PromptLookup(tokens).propose(4) == guess
    assert PromptLookup(tokens).propose(1) == guess[:1]
    assert PromptLookup(tokens).propose(0) == []


@given(tokens=st.lists(st.integers(0, 3), min_size=1, max_size=60), prompt=st.integers(1, 60), most=st.integers(0, 5))
def test_as_defined(tokens: list[int], prompt: int, most: int) -> None:
    """Four different tokens, so that there are many occurrences; the response comes one by one."""
    lookup = PromptLookup(tokens[:prompt])
    for token in tokens[prompt:]:
        lookup.push(token)
    assert lookup.propose(most) == _by_definition(tokens, most)


def test_a_long_response_finds_room() -> None:
    lookup = PromptLookup([9, 1])
    for _ in range(1000):
        lookup.push(1)
    lookup.push(9)
    assert lookup.propose(2) == [1, 1]
