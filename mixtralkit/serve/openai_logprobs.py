r"""Log probabilities as OpenAI's two routes tell them.

Both write a token as its text, with the space before a word, so that the tokens join to the response's; a byte that is
no text alone is "bytes:\xe2", and a control token has its name.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.tokenizer import SPACE_MARK, Tokenizer

FIRST_OF_MANY = 0x80  # from here on, a byte is part of a character of several
LEAST = -9999.0  # JSON has no infinity
Told: TypeAlias = dict[str, Any]


@lru_cache(1 << 16)  # the vocabulary's size: with 20 alternatives a token, most of the time would go here
def token_text(tokenizer: Tokenizer, token: int) -> str:
    """How a client reads `token`."""
    byte = tokenizer.byte_of(token)
    if byte is None:
        return tokenizer.piece(token).replace(SPACE_MARK, " ")
    return chr(byte) if byte < FIRST_OF_MANY else _spelled(bytes([byte]))


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
        """The likeliest tokens and the chosen one, which may be one of them.

        A byte's token may have the text of another token: the chosen one goes by it, or else the likelier.
        """
        chosen = token_text(self._tokenizer, known.token)
        told: dict[str, float] = {}
        for token, logprob in (dict(known.top) | {known.token: known.logprob}).items():
            text = token_text(self._tokenizer, token)
            taken = text in told or (text == chosen and token != known.token)
            told[_spelled(token_bytes(self._tokenizer, token)) if taken else text] = finite(logprob)
        return told


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


def _spelled(content: bytes) -> str:
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


def finite(logprob: float) -> float:
    """What JSON can say."""
    return max(logprob, LEAST)
