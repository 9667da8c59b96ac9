"""Responses that follow a grammar: which tokens may come next, by the package llguidance."""

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mixtralkit.engine.grammar_trial import Unjudged, try_grammar
from mixtralkit.engine.guidance import SentencepieceTokens, compile_grammar, guidance_tokenizer, refusal
from mixtralkit.engine.largest import Floats, Indices
from mixtralkit.engine.request import Grammar
from mixtralkit.errors import RequestError
from mixtralkit.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT = 256  # grammars that were checked last: those who use one mostly use it again, with a fault too
SPACE = b" "


class Grammars:
    """The grammars that requests come with, for the tokens of `tokenizer`; nothing is prepared before the first one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._faults: dict[Grammar, str] = {}  # of the last that were checked, the latest last; nothing for good ones
        self._remembering = threading.Lock()

    def knows(self, grammar: Grammar) -> bool:
        """Whether `grammar` was checked not long ago, so that `check` takes no time."""
        return grammar in self._faults

    def check(self, grammar: Grammar) -> None:
        """Raise `RequestError` when `grammar` cannot be used. The first time it takes a tenth of a second, or seconds.

        Threads may call it at the same time.
        """
        fault = self._faults.get(grammar)
        if fault is None:
            fault = _fault(grammar)
            self._remember(grammar, fault)
        if fault:
            raise RequestError(fault)

    def start(self, grammar: Grammar) -> "GrammarState":
        """The state of a response that has not begun; `grammar` has been checked, on this rank or another.

        Each response has a matcher of its own: copies of one share what they learn, and with it the bound on that, so
        that one request could end another. Raises `RequestError` as `check` does.
        """
        return GrammarState(compile_grammar(self._guidance, grammar), self._first_words)

    def _remember(self, grammar: Grammar, fault: str) -> None:
        with self._remembering:
            if len(self._faults) >= KEPT:
                del self._faults[next(iter(self._faults))]
            self._faults[grammar] = fault

    @cached_property
    def _tokens(self) -> SentencepieceTokens:
        return SentencepieceTokens(self._tokenizer)

    @cached_property
    def _guidance(self) -> "LLTokenizer":
        return guidance_tokenizer(self._tokens)

    @cached_property
    def _first_words(self) -> tuple[Indices, Indices]:
        """Tokens that begin with a space, and for each the token of the same text without it, -1 if there is none."""
        ids = {text: token for token, text in enumerate(self._tokens.tokens)}
        spaced = [
            token
            for token, text in enumerate(self._tokens.tokens)
            if text.startswith(SPACE) and self._tokenizer.byte_of(token) is None
        ]
        bare = [ids.get(self._tokens.tokens[token][len(SPACE) :], -1) for token in spaced]
        return np.array(spaced, dtype=np.intp), np.array(bare, dtype=np.intp)


def _fault(grammar: Grammar) -> str:
    """Why `grammar` cannot be used, nothing if it can. Raises `Unjudged`."""
    try:
        try_grammar(grammar)
    except Unjudged:
        raise
    except RequestError as error:
        return str(error)
    return ""


class GrammarState:
    """How far a response has come in its grammar.

    The first token of a response loses the space that it begins with, if any, so it is judged as the token without
    one: `first_words` are the tokens with a space, and those without.
    """

    def __init__(self, matcher: "LLMatcher", first_words: tuple[Indices, Indices]) -> None:
        self._matcher = matcher
        self._first_words: tuple[Indices, Indices] | None = first_words

    @property
    def ended(self) -> bool:
        """Whether nothing can follow any more: the grammar is at its end, or EOS has come where it may."""
        return bool(self._matcher.is_stopped())

    def exclude(self, logits_V: Floats) -> None:
        """Set the logits of tokens that may not come next to -inf. EOS may come where the grammar may stop."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        allowed_V = np.unpackbits(mask, count=logits_V.size, bitorder="little")
        if self._first_words is not None:
            spaced, bare = self._first_words
            allowed_V[spaced] = allowed_V[bare] & (bare >= 0)
        np.putmask(logits_V, allowed_V == 0, -np.inf)

    def push(self, token: int) -> None:
        """The response has one more token, which `exclude` left."""
        if self._first_words is not None:
            spaced, bare = self._first_words
            place = int(np.searchsorted(spaced, token))
            if place < spaced.size and spaced[place] == token:
                token = int(bare[place])
            self._first_words = None
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise refusal(self._matcher.get_error())
