"""Requests of random tokens that run through the model just as the engine's do, without its scheduler and sampling."""

import random

from mixtralkit.bench.subject import Subject
from mixtralkit.model.batch import make_batch
from mixtralkit.model.kv_cache import separate_tables


class RandomRequests:
    """The share that a rank has of `total` requests of up to `context` tokens, with a KV cache of their own."""

    def __init__(self, subject: Subject, *, total: int, context: int) -> None:
        self.number = subject.share(total)
        self._model = subject.model
        self._device = subject.group.device
        self._tables = separate_tables(self.number, context)
        self._cache = subject.model.new_cache(sum(map(len, self._tables)))
        self._random = random.Random(subject.group.rank)

    def draw(self, length: int) -> list[list[int]]:
        """`length` random tokens for each of the requests."""
        vocabulary = range(self._model.config.vocab_size)
        return [self._random.choices(vocabulary, k=length) for _ in range(self.number)]

    def run(self, tokens: list[list[int]], start: int) -> None:
        """Take in `tokens`, the first of each request at position `start`, up to the logits on the host."""
        batch = make_batch(tokens, [start] * self.number, self._tables, self._device)
        self._model.next_token_logits(batch, self._cache).cpu()
