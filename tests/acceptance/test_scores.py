"""The figures that a client's must equal: what is scored, and of which tokens."""

import math

import pytest
import torch

from acceptance.plays import Question
from acceptance.scores import WINDOW, accuracy, perplexities, windows
from mixtralkit.tokenizer import Tokenizer
from tests.small_tokenizer import small_tokenizer

LENGTHS = (1, 2, 3, WINDOW, WINDOW + 1, WINDOW + 2, 2 * WINDOW, 2 * WINDOW + 1, 5 * WINDOW + 17)


@pytest.fixture
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("length", LENGTHS)
def test_every_token_but_the_first_is_scored_once(length: int) -> None:
    tokens = list(range(length))
    found = list(windows(tokens))
    assert [token for window, scored in found for token in window[len(window) - scored :]] == tokens[1:]
    assert all(0 < scored < len(window) <= WINDOW + 1 for window, scored in found)
    assert all(window == list(range(window[0], window[0] + len(window))) for window, _ in found)


@pytest.mark.parametrize("length", LENGTHS)
def test_windows_are_as_long_as_they_can_be(length: int) -> None:
    assert {len(window) for window, _ in windows(list(range(length)))} <= {min(length, WINDOW + 1)}


def test_the_perplexity_of_a_model_that_knows_nothing(tokenizer: Tokenizer) -> None:
    """Each token has the same chance, so the figures follow from the numbers of tokens, words and bytes."""
    scenes = ["To be, or not to be", "that is\nthe question"]
    tokens = sum(len(tokenizer.encode(scene, bos=False)) for scene in scenes)
    found = perplexities(scenes, tokenizer, lambda ids: torch.zeros(len(ids), tokenizer.vocab_size))
    nats = tokens * math.log(tokenizer.vocab_size)
    assert found["word_perplexity"] == pytest.approx(math.exp(nats / 10), rel=1e-9)
    assert found["byte_perplexity"] == pytest.approx(math.exp(nats / len("".join(scenes))), rel=1e-9)


def test_the_accuracy_of_a_model_that_always_expects_one_token(tokenizer: Tokenizer) -> None:
    wanted = tokenizer.encode("\nbe", bos=False)[-1]
    asked = [Question("to", ("be", "question"), 0), Question("to", ("be", "question"), 1)]

    def logits(ids: list[int]) -> torch.Tensor:
        found_TV = torch.zeros(len(ids), tokenizer.vocab_size)
        found_TV[:, wanted] = 5
        return found_TV

    assert accuracy(asked, tokenizer, logits) == 0.5
