r"""Log probabilities as OpenAI's two routes tell them.

Both write a token so that two tokens never look the same: its text, with the space before a word, or "bytes:\x0a" for
a byte that need not be a character, or a control token's name.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.tokenizer import Tokenizer

LEAST = -9999.0  # JSON has no infinity
Told: TypeAlias = dict[str, Any]


@lru_cache(1 << 16)  # the vocabulary's size: with 20 alternatives a token, most of the time would go here
def token_text(tokenizer: Tokenizer, token: int) -> str:
    """How a client reads `token`."""
    byte = tokenizer.byte_of(token)
    return f"bytes:\\x{byte:02x}" if byte is not None else tokenizer.piece(token).replace("\u2581", " ")


def no_logprobs() -> Told:
    """The logprobs of /v1/completions before the first token."""
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}


def joined(parts: Sequence[Told]) -> Told:
    """The lists of all parts, one after the other."""
    told = no_logprobs()
    for part in parts:
        for name, values in part.items():
            told[name] += values
    return told


class CompletionLogprobs:
    """Writes the logprobs of one response of /v1/completions, whose text is decoded again to know where tokens begin.

    `begun` is whether the first token follows other text.
    """

    def __init__(self, tokenizer: Tokenizer, *, begun: bool) -> None:
        self._tokenizer = tokenizer
        self._decoder = tokenizer.stream(begun=begun)
        self._offset = 0

    def write(self, tokens: Sequence[int], logprobs: Sequence[TokenLogprobs | None]) -> Told:
        """Four parallel lists. A token whose log probability is None, as a prompt's first one, gets null."""
        told = no_logprobs()
        for token, known in zip(tokens, logprobs, strict=True):
            told["tokens"].append(token_text(self._tokenizer, token))
            told["token_logprobs"].append(None if known is None else finite(known.logprob))
            told["top_logprobs"].append(None if known is None else self._top(known))
            told["text_offset"].append(self._offset)
            self._offset += len(self._decoder.push(token))
        return told

    def follow(self, text: str, *, begun: bool) -> None:
        """What comes is the response to a prompt that was written here, whose text is `text`."""
        self._decoder = self._tokenizer.stream(begun=begun)
        self._offset = len(text)

    def _top(self, known: TokenLogprobs) -> dict[str, float]:
        """The likeliest tokens and the chosen one, which may be one of them."""
        pairs = [*known.top, (known.token, known.logprob)]
        return {token_text(self._tokenizer, token): finite(logprob) for token, logprob in pairs}


def chat_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprobs]) -> Told:
    """The logprobs of /v1/chat/completions."""

    def one(token: int, logprob: float) -> Told:
        return {
            "token": token_text(tokenizer, token),
            "logprob": finite(logprob),
            "bytes": list(token_bytes(tokenizer, token)),
        }

    return {
        "content": [
            {**one(known.token, known.logprob), "top_logprobs": [one(token, logprob) for token, logprob in known.top]}
            for known in logprobs
        ]
    }


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """The UTF-8 of `token`'s text; a control token has none."""
    byte = tokenizer.byte_of(token)
    if byte is not None:
        return bytes([byte])
    return b"" if tokenizer.is_control(token) else token_text(tokenizer, token).encode()


def finite(logprob: float) -> float:
    """What JSON can say."""
    return max(logprob, LEAST)
