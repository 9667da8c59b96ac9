"""Runs one rank's share of a step: builds the batch, calls the model, samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from mixtralkit.engine.request import Request
from mixtralkit.engine.sampling import new_generator, sample
from mixtralkit.model.batch import make_batch
from mixtralkit.model.kv_cache import KVCache
from mixtralkit.model.transformer import Transformer


@dataclass
class _Progress:
    """A running request: the tokens it still has to feed, how many are in the cache, and its random draws."""

    slot: int
    pending: tuple[int, ...]
    cached: int = 0
    generator: torch.Generator = field(default_factory=torch.Generator)


class Runner:
    """Holds the KV cache of this rank's requests and advances them."""

    def __init__(self, model: Transformer, cache: KVCache) -> None:
        self._model = model
        self._cache = cache
        self._device = model.tok_embeddings.weight.device
        self._progress: dict[int, _Progress] = {}

    def admit(self, number: int, request: Request, slot: int) -> None:
        """Take in a request that will be prefilled in the next step."""
        self._progress[number] = _Progress(slot, request.prompt_tokens, generator=new_generator(request.params))

    def release(self, number: int) -> None:
        """Forget a finished request."""
        del self._progress[number]

    def run(self, numbers: Sequence[int], requests: Sequence[Request]) -> list[int]:
        """The next token of each of the requests. With none of them, this rank still takes part in every layer."""
        progress = [self._progress[number] for number in numbers]
        batch = make_batch(
            [p.pending for p in progress], [p.cached for p in progress], [p.slot for p in progress], self._device
        )
        logits_BV = self._model.next_token_logits(batch, self._cache).cpu()
        tokens = []
        for number, state, logits_V in zip(numbers, progress, logits_BV, strict=True):
            token = sample(logits_V, requests[number].params, state.generator)
            state.cached += len(state.pending)
            state.pending = (token,)
            tokens.append(token)
        return tokens
