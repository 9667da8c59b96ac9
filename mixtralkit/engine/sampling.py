"""From logits to a token."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from mixtralkit.engine.draws import Draws
from mixtralkit.engine.grammar import GrammarState
from mixtralkit.engine.largest import BadLogits, Floats, largest_logit
from mixtralkit.engine.logprobs import TokenLogprobs, token_logprobs
from mixtralkit.engine.narrowing import draw
from mixtralkit.engine.penalties import Penalties, changes_logits
from mixtralkit.engine.request import SamplingParams
from mixtralkit.engine.vocabulary import Vocabulary
from mixtralkit.errors import RequestError
from mixtralkit.ops.sample import NO_TOKEN, Settings


def is_plain(params: SamplingParams) -> bool:
    """Whether a request needs nothing of its logits but tokens, and these by temperature, min-p, top-k and top-p alone.

    It depends on nothing else, so that a request is sampled at the same place whatever is in the batch.
    """
    wanted = (params.logprobs, params.prompt_logprobs, params.grammar)
    return not changes_logits(params) and params.min_tokens == 0 and all(each is None for each in wanted)


class Sampler:
    """Chooses the tokens of one request, one after the other; what it chose is its state.

    `output_tokens` are those of the response that are known already, after a preemption: the rest becomes what it
    would have been. A row of logits, the tokens before it and the seed decide, never the batch.

    The order is vLLM's: bias, penalties, the tokens that `min_tokens` and the grammar exclude, temperature, min-p,
    top-k, top-p. (vLLM excludes tokens before it adds the bias, which is the same: -inf stays -inf.)
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int] = (),
        *,
        vocabulary: Vocabulary,
    ) -> None:
        self._params = params
        self._vocab_size = vocabulary.size
        self._penalties = Penalties(params, prompt_tokens, vocabulary.size) if changes_logits(params) else None
        self._grammars = vocabulary.grammars
        self._ending = [*params.stop_token_ids, *(() if params.ignore_eos else (vocabulary.eos_id,))]
        self._draws = Draws(params.seed)
        self._output: list[int] = []
        for token in output_tokens:
            self._remember(token)

    @property
    def ended(self) -> bool:
        """Whether the response is complete by its grammar, so that nothing can follow."""
        return self._grammar is not None and self._grammar.ended

    def settings(self, ahead: int) -> Settings:
        """With which ops/sample chooses the token that comes `ahead` tokens after the next; for plain requests."""
        params = self._params
        uniform = self._draws.uniform(len(self._output) + ahead) if params.temperature else 0.0
        # top_k as a float may be beyond all floats
        return Settings(params.temperature, params.min_p, min(params.top_k, self._vocab_size), params.top_p, uniform)

    def accept(self, token: int) -> int:
        """The next token, which ops/sample chose. Raises `RequestError` for a row with a NaN or an infinity."""
        if token in NO_TOKEN:
            raise BadLogits(NO_TOKEN[token])
        self._remember(token)
        return token

    def next(self, logits_V: torch.Tensor) -> tuple[int, TokenLogprobs | None]:
        """The next token of the response, and its log probabilities if the request wants them.

        `logits_V` is float32, on the CPU, and is not changed. Raises `RequestError` when it holds a NaN or an infinity,
        when no token is left to choose, and when the grammar cannot be used any further.
        """
        row_V: Floats = logits_V.numpy()
        token = self._choose(self._changed(row_V))
        self._remember(token)
        if self._grammar:
            self._grammar.push(token)
        wanted = self._params.logprobs
        return token, None if wanted is None else token_logprobs(row_V, token, wanted)

    def _changed(self, row_V: Floats) -> Floats:
        """The logits with all that the request adds and excludes; the row itself where that is nothing."""
        too_early = len(self._output) < self._params.min_tokens
        if not (self._penalties or self._grammar or too_early):
            return row_V
        largest_logit(row_V)  # what may hide in it is found before it is changed
        changed_V = row_V.astype(np.float64)
        if self._penalties:
            self._penalties.apply(changed_V)
        if too_early:
            changed_V[self._ending] = -np.inf
        if self._grammar:
            self._grammar.exclude(changed_V)
        if changed_V.max() == -np.inf:
            raise RequestError("no token may come next: min_tokens excludes all that the grammar allows")
        return changed_V

    def _choose(self, logits_V: Floats) -> int:
        largest_logit(logits_V)
        if self._params.temperature == 0:
            return int(logits_V.argmax())
        return draw(logits_V, self._params, self._draws.uniform(len(self._output)))

    def _remember(self, token: int) -> None:
        self._output.append(token)
        if self._penalties:
            self._penalties.push(token)

    @cached_property
    def _grammar(self) -> GrammarState | None:
        """Begun with the first row of logits, so that what goes wrong is that row's error, and the request's."""
        if self._params.grammar is None:
            return None
        state = self._grammars.start(self._params.grammar)
        for token in self._output:
            state.push(token)
        return state
