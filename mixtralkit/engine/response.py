"""A response as text: decoded as its tokens come, and ended by its stop strings. Rank 0 keeps one a request."""

from collections.abc import Sequence

from mixtralkit.engine.request import FinishReason, SamplingParams
from mixtralkit.engine.stop_prefix import StopPrefix
from mixtralkit.tokenizer import Tokenizer


class Response:
    """The text of one request so far. Its runner ends it for its tokens (EOS, length), and stop strings end it here."""

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer, *, continues: bool = False) -> None:
        self._stops = params.stop
        self._stop_token_ids = params.stop_token_ids
        self._min_tokens = params.min_tokens
        self._decoder = tokenizer.stream(begun=continues and params.grammar is None)
        self._prefixes = [StopPrefix(stop) for stop in self._stops]
        self._longest = max(map(len, self._stops), default=0)
        self._shown = 0
        self.text = ""
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None

    def push(self, tokens: Sequence[int], finish: FinishReason | None) -> tuple[str, int]:
        """Take new tokens, after which the runner may have ended the request; returns text to show and tokens taken.

        Text that may turn out to be the beginning of a stop string is held back until it is clear. Tokens after the one
        that completes a stop string are not taken, and a stop token has no text.
        """
        for taken, token in enumerate(tokens, start=1):
            self.tokens.append(token)
            ends = finish is not None and taken == len(tokens)
            stopped = ends and finish == "stop" and token in self._stop_token_ids  # not by the end of a grammar
            text = "" if stopped else self._decoder.push(token)
            if self._extend(text, flush=ends):
                return self._showable(), taken
        self.finish_reason = finish
        return self._showable(), len(tokens)

    def end(self, reason: FinishReason) -> str:
        """End the response as it is; returns the text that had been held back."""
        self._extend("", flush=True)
        self.finish_reason = self.finish_reason or reason
        return self._showable()

    def _extend(self, text: str, *, flush: bool) -> bool:
        """Add text; returns whether a stop string has come to its end, and cuts the text before it."""
        text += self._decoder.flush() if flush else ""
        searched = max(0, len(self.text) - self._longest + 1)
        self.text += text
        for prefix in self._prefixes:
            prefix.push(text)
        if not text or len(self.tokens) < self._min_tokens:
            return False
        places = [place for stop in self._stops if (place := self.text.find(stop, searched)) >= 0]
        if places:
            self.text = self.text[: min(places)]
            self.finish_reason = "stop"
        return bool(places)

    def _showable(self) -> str:
        held_back = 0 if self.finish_reason else max((prefix.size for prefix in self._prefixes), default=0)
        end = len(self.text) - held_back
        shown = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return shown
