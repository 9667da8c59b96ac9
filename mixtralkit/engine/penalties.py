"""What a request adds to the model's logits: a bias, and penalties on the tokens that were there already."""

from collections.abc import Iterable

import numpy as np

from mixtralkit.engine.largest import Floats
from mixtralkit.engine.request import SamplingParams


def changes_logits(params: SamplingParams) -> bool:
    """Whether a request has a bias or a penalty."""
    penalties = (params.presence_penalty, params.frequency_penalty)
    return bool(params.logit_bias or params.repetition_penalty != 1 or any(penalties))


class Penalties:
    """The bias and the penalties of one request, as vLLM and OpenAI define them.

    First the bias is added. Logits of tokens in the prompt or the response are divided by `repetition_penalty`, or
    multiplied where they are negative. Then each token of the response loses `frequency_penalty` for every time it
    is there, and `presence_penalty` once.
    """

    def __init__(self, params: SamplingParams, prompt_tokens: Iterable[int], vocab_size: int) -> None:
        bias = dict(params.logit_bias)
        self._biased = np.fromiter(bias.keys(), dtype=np.intp)
        self._bias = np.fromiter(bias.values(), dtype=np.float64)
        self._repetition = params.repetition_penalty
        self._seen_V = np.zeros(vocab_size, dtype=np.bool_)
        self._seen_V[np.fromiter(prompt_tokens, dtype=np.intp)] = True
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._subtracted_V = np.zeros(vocab_size) if self._presence or self._frequency else None
        self._output: set[int] = set()

    def push(self, token: int) -> None:
        """The response has one more token."""
        self._seen_V[token] = True
        if self._subtracted_V is not None:
            self._subtracted_V[token] += self._frequency + (0.0 if token in self._output else self._presence)
        self._output.add(token)

    def apply(self, logits_V: Floats) -> None:
        """Change the next token's logits, float64, in place."""
        logits_V[self._biased] += self._bias
        if self._repetition != 1:
            seen = np.flatnonzero(self._seen_V)
            logits = logits_V[seen]
            logits_V[seen] = np.where(logits > 0, logits / self._repetition, logits * self._repetition)
        if self._subtracted_V is not None:
            logits_V -= self._subtracted_V
