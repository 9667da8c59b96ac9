"""What the harness must find: the same figures, computed in this process with no server and none of its code.

A scorer is asked as the harness asks a server: windows of at most `WINDOW` tokens, each token scored once, the first
one after BOS.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence

import torch

from acceptance.plays import Question
from mixtralkit.model.transformer import Transformer
from mixtralkit.tokenizer import Tokenizer
from tests.reference import mixtral
from tests.reference.cases import shape_of

CONTEXT = 512
WINDOW = CONTEXT - 2  # one token is generated, and one stands before those that are scored
Logits = Callable[[list[int]], torch.Tensor]


def of_mixtralkit(model: Transformer) -> Logits:
    """The model's own logits after every token, `[T, V]`."""

    def logits(tokens: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits_BTV: torch.Tensor = model(torch.tensor([tokens]))
        return logits_BTV[0].double()

    return logits


def of_oracle(model: Transformer) -> Logits:
    """Those of the tests' oracle, a Mixtral in one file and in float64, with the weights of `model`."""
    weights = {name: weight.detach().double() for name, weight in model.state_dict().items()}
    return lambda tokens: mixtral.logits(weights, shape_of(model.config), tokens)


def perplexities(scenes: Sequence[str], tokenizer: Tokenizer, logits: Logits) -> dict[str, float]:
    """By word and by byte."""
    total = sum(_of_text(tokenizer.encode(scene, bos=False), tokenizer.bos_id, logits) for scene in scenes)
    words = sum(len(re.split(r"\s+", scene)) for scene in scenes)
    nbytes = sum(len(scene.encode()) for scene in scenes)
    return {"word_perplexity": math.exp(-total / words), "byte_perplexity": math.exp(-total / nbytes)}


def accuracy(questions: Sequence[Question], tokenizer: Tokenizer, logits: Logits) -> float:
    """How often the likeliest choice is the right one."""

    def likelihood(text: str, choice: str) -> float:
        begin = tokenizer.encode(text, bos=False)
        whole = tokenizer.encode(f"{text}\n{choice}", bos=False)
        return _log_likelihood(whole, len(whole) - len(begin), logits)

    def is_right(asked: Question) -> bool:
        found = [likelihood(asked.text, choice) for choice in asked.choices]
        return found.index(max(found)) == asked.answer

    return sum(map(is_right, questions)) / len(questions)


def _of_text(tokens: list[int], bos: int, logits: Logits) -> float:
    return sum(_log_likelihood(window, scored, logits) for window, scored in windows([bos, *tokens]))


def windows(tokens: list[int]) -> Iterator[tuple[list[int], int]]:
    """Parts of `tokens`, and how many at the end of each are scored; all but the first token are, once.

    A part is as long as it can be, so the last one begins with tokens that were scored before.
    """
    for end in range(1, len(tokens), WINDOW):
        last = min(end + WINDOW, len(tokens))
        yield tokens[max(last - WINDOW - 1, 0) : last], last - end


def _log_likelihood(tokens: list[int], scored: int, logits: Logits) -> float:
    """Of the last `scored` tokens, given those before."""
    found_TV = torch.log_softmax(logits(tokens)[:-1].double(), dim=-1)
    chosen = found_TV.gather(1, torch.tensor(tokens[1:])[:, None])[-scored:]
    return float(chosen.sum())
