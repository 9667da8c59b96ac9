"""Grammars by the package llguidance: its view of the tokenizer, and a matcher of one grammar.

The package comes in with the first request that has a grammar.
"""

import json
from typing import TYPE_CHECKING, Protocol

from mixtralkit.engine.request import Grammar
from mixtralkit.errors import RequestError
from mixtralkit.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

MOST_STATES = 25_000  # of a matcher's lexer, 1 to 2 kB each; the default, 250 000, would be half a gigabyte
LONGEST_REASON = 300  # characters of llguidance's message
BEFORE = "\x02"  # a text's first word gets a space before it; after this byte, which no token joins, nothing is first
JSON_OBJECT = '{"type": "object"}'
# Between the parts of JSON: a space, or line breaks and an indentation. Without a bound, a model that likes line breaks
# writes nothing else until max_tokens is reached.
JSON_SPACE = r" |\n{1,2}[ \t]{0,40}"


class TokenList(Protocol):
    """What llguidance asks of a tokenizer: its tokens as bytes, and ids of a text."""

    eos_token_id: int
    bos_token_id: int | None
    tokens: list[bytes]
    special_token_ids: list[int]

    def __call__(self, text: str) -> list[int]:
        """The ids of `text` as they are in the midst of a response."""


class SentencepieceTokens:
    """The tokens of a sentencepiece model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        ids = range(tokenizer.vocab_size)
        self.eos_token_id = tokenizer.eos_id
        self.bos_token_id: int | None = tokenizer.bos_id
        self.special_token_ids = [id_ for id_ in ids if tokenizer.is_control(id_) or id_ == tokenizer.unk_id]
        self.tokens = [tokenizer.bytes_of(id_) for id_ in ids]
        special = set(self.special_token_ids)
        self._ids = {text: id_ for id_, text in enumerate(self.tokens) if id_ not in special}
        self._longest = max(map(len, self._ids))
        self._before = tokenizer.encode(BEFORE, bos=False)

    def __call__(self, text: str) -> list[int]:
        """The ids of `text` as they are in the midst of a response."""
        ids = self._tokenizer.encode(BEFORE + text, bos=False)[len(self._before) :]
        content = text.encode()
        return ids if b"".join(self.tokens[id_] for id_ in ids) == content else self._longest_first(content)

    def _longest_first(self, content: bytes) -> list[int]:
        """Ids for a text that sentencepiece would change: it may narrow characters or join spaces."""
        ids: list[int] = []
        begin = 0
        while begin < len(content):
            ends = range(min(len(content), begin + self._longest), begin, -1)
            end = next((end for end in ends if content[begin:end] in self._ids), None)
            if end is None:
                break  # a vocabulary without tokens for bytes cannot express the rest
            ids.append(self._ids[content[begin:end]])
            begin = end
        return ids


class ByteTokens:
    """One token a byte, and an EOS: enough to see what a grammar costs."""

    eos_token_id = 256
    bos_token_id: int | None = None

    def __init__(self) -> None:
        self.tokens = [*(bytes([byte]) for byte in range(256)), b"</s>"]
        self.special_token_ids = [self.eos_token_id]

    def __call__(self, text: str) -> list[int]:
        """The bytes of `text`."""
        return list(text.encode())


def guidance_tokenizer(tokens: TokenList) -> "LLTokenizer":
    """Llguidance's own form of the tokens; takes tenths of a second for a whole vocabulary."""
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ImportError as error:
        raise RequestError("grammar needs the package llguidance; install it with pip install llguidance") from error
    return LLTokenizer(TokenizerWrapper(tokens))


def compile_grammar(tokenizer: "LLTokenizer", grammar: Grammar) -> "LLMatcher":
    """A matcher at the beginning of a response. Raises `RequestError` for a grammar that cannot be used."""
    from llguidance import LLMatcher, LLParserLimits

    # Verbose errors would tell logs what is in the response.
    limits = LLParserLimits(max_lexer_states=MOST_STATES, verbose_errors=False)
    try:
        if grammar.kind == "regex":
            text = LLMatcher.grammar_from_regex(grammar.text)
        else:
            schema = grammar.text or JSON_OBJECT
            text = LLMatcher.grammar_from_json_schema(schema, _space(schema))
    except ValueError as error:
        raise refusal(str(error)) from error
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=limits)
    matcher.compute_bitmask()  # some faults show only here, such as a grammar that no text matches
    if matcher.is_error():
        raise refusal(matcher.get_error())
    return matcher


def _space(schema: str) -> "JsonCompileOptions":
    """What llguidance is told of white space between the parts of JSON.

    A schema's x-guidance goes before it with a pattern of its own, but not with the wish for none: it is looked for.
    """
    try:
        read = json.loads(schema)
    except (ValueError, RecursionError):
        read = None  # llguidance says what is wrong
    own = read.get("x-guidance") if isinstance(read, dict) else None
    none_wanted = isinstance(own, dict) and own.get("whitespace_flexible") is False
    return {} if none_wanted else {"whitespace_pattern": JSON_SPACE}


def refusal(reason: str) -> RequestError:
    """The error for a grammar that cannot be used, or not any further."""
    reason = " ".join(reason.removesuffix("<non-verbose/>").split())
    return RequestError(f"grammar cannot be used: {reason[:LONGEST_REASON]}; correct or simplify it")
