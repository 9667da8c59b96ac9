"""Requests of random tokens that run through the model just as the engine's do, without its scheduler and sampling."""

import random
from array import array

import torch

from mixtralkit.bench.subject import Subject
from mixtralkit.engine.decode_graphs import SPARE_BLOCKS, DecodeGraphs
from mixtralkit.engine.decode_inputs import NextToken
from mixtralkit.engine.warm_up import most_recordable, why_not_together
from mixtralkit.model.batch import make_batch
from mixtralkit.model.kv_cache import separate_tables


class RandomRequests:
    """The share that a rank has of `total` requests of up to `context` tokens, with a KV cache of their own."""

    def __init__(self, subject: Subject, *, total: int, context: int) -> None:
        self.number = subject.share(total)
        self._most = -(-total // subject.group.world_size)
        self._model = subject.model
        self._device = subject.group.device
        self._control = subject.group.control
        self._context = context
        self._tables = [array("q", table) for table in separate_tables(self.number, context)]
        self._cache = subject.model.new_cache(sum(map(len, self._tables)) + SPARE_BLOCKS)
        self._random = random.Random(subject.group.rank)
        self._graphs: DecodeGraphs | None = None

    @property
    def recorded(self) -> bool:
        """Whether steps of one token are recorded ones."""
        return self._graphs is not None

    def record(self) -> None:
        """Record the step of one token, where it can be; all ranks call it together.

        The model's layers must stay as they are from now on.
        """
        if self._graphs is not None or why_not_together(self._model, self._control) is not None:
            return
        if most_recordable(self._model, self._most) == self._most:
            self._graphs = DecodeGraphs(self._model, self._cache, requests=[self._most], context=self._context)

    def draw(self, length: int) -> list[list[int]]:
        """`length` random tokens for each of the requests."""
        vocabulary = range(self._model.config.vocab_size)
        return [self._random.choices(vocabulary, k=length) for _ in range(self.number)]

    def run(self, tokens: list[list[int]], start: int, *, recorded: bool = False) -> None:
        """Take in `tokens`, the first of each request at position `start`, up to the next tokens on the host.

        On the CPU the logits are there. `recorded` takes the recorded step, if there is one.
        """
        if recorded and self._graphs is not None:
            pairs = zip(tokens, self._tables, strict=True)
            logits_BV = self._graphs.logits([NextToken(token, start, table) for (token,), table in pairs], self._most)
        else:
            batch = make_batch(tokens, [start] * self.number, self._tables, self._device)
            logits_BV = self._model.next_token_logits(batch, self._cache)
        if not logits_BV.is_cpu:
            torch.argmax(logits_BV, 1).cpu()
        if self._graphs is not None:
            self._graphs.check()
