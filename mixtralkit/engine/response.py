"""A response as it grows, and what ends it."""

from mixtralkit.engine.request import Completion, FinishReason, Request
from mixtralkit.tokenizer import Tokenizer


class Response:
    """The tokens of one request so far; every rank keeps one, so all agree on when a request ends.

    Text is decoded only where somebody wants it: `decode` is true, or the request has stop strings.
    """

    def __init__(self, request: Request, *, tokenizer: Tokenizer, context: int, decode: bool) -> None:
        self._request = request
        self._tokenizer = tokenizer
        self._room = context - len(request.prompt_tokens)
        self._tokens: list[int] = []
        self._decoder = tokenizer.stream() if decode or request.params.stop else None
        self._text = ""
        self._shown = 0
        self.finish_reason: FinishReason | None = None

    def push(self, token: int) -> str:
        """Add a token; returns the text that can be shown now.

        Text that may turn out to be the beginning of a stop string is held back until it is clear.
        """
        self._tokens.append(token)
        if self._decoder is not None and token != self._tokenizer.eos_id:
            self._text += self._decoder.push(token)
        self.finish_reason = self._why_finished(token)
        if self.finish_reason and self._decoder is not None:
            self._text += self._decoder.flush()
        self._cut_at_stop()
        return self._showable()

    def interrupt(self) -> str:
        """End the response as it is; returns the text that had been held back."""
        self.finish_reason = "interrupted"
        if self._decoder is not None:
            self._text += self._decoder.flush()
        return self._showable()

    def completion(self, rank: int) -> Completion:
        """The finished response, which ran on `rank`."""
        assert self.finish_reason is not None
        return Completion(
            text=self._text,
            tokens=tuple(self._tokens),
            finish_reason=self.finish_reason,
            prompt_tokens=len(self._request.prompt_tokens),
            rank=rank,
        )

    def _why_finished(self, token: int) -> FinishReason | None:
        if token == self._tokenizer.eos_id:
            return "eos"
        if any(stop in self._text for stop in self._request.params.stop):
            return "stop"
        if len(self._tokens) >= self._room:
            return "context"
        return "length" if len(self._tokens) >= self._request.params.max_tokens else None

    def _cut_at_stop(self) -> None:
        places = [self._text.find(stop) for stop in self._request.params.stop]
        found = [place for place in places if place >= 0]
        if found:
            self._text = self._text[: min(found)]

    def _showable(self) -> str:
        end = len(self._text) if self.finish_reason else len(self._text) - self._possible_stop()
        shown = self._text[self._shown : end]
        self._shown = max(self._shown, end)
        return shown

    def _possible_stop(self) -> int:
        """The length of the longest end of the text with which a stop string begins."""
        return max(
            (
                size
                for stop in self._request.params.stop
                for size in range(1, len(stop))
                if self._text.endswith(stop[:size])
            ),
            default=0,
        )
