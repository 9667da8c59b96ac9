"""One choice of /v1/completions as it grows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.engine.output import Output
from mixtralkit.serve.openai_answer import FINISH
from mixtralkit.serve.openai_logprobs import CompletionLogprobs, Told, joined
from mixtralkit.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt in tokens, and its text (of ids only where somebody wants to see it)."""

    tokens: tuple[int, ...]
    text: str
    has_text: bool  # whether a response's first word follows other text


class CompletionChoice:
    """A response to `prompt`, which `echo` puts before it. Without `generates` the prompt is all there is to tell.

    `continues` is the engine request's.
    """

    def __init__(
        self,
        index: int,
        prompt: Prompt,
        tokenizer: Tokenizer,
        *,
        continues: bool,
        echo: bool,
        generates: bool,
        logprobs: bool,
        token_ids: bool,
    ) -> None:
        self._index = index
        self._prompt = prompt
        self._echo = echo
        self._generates = generates
        self._continues = continues
        self._logprobs = CompletionLogprobs(tokenizer, begun=continues and not echo) if logprobs else None
        self._tells_ids = token_ids
        self._scored = 0  # tokens of the prompt whose logprobs are in the list
        self._prompt_logprobs: list[Told] = []
        self._begun = False

    def add(self, output: Output) -> Told | None:
        """Take an output; returns the choice of the chunk that tells what is new, None where nothing is."""
        if self._echo and self._logprobs is not None and not self._begun:
            self._score(self._logprobs, output.prompt_logprobs)
        if not (output.tokens or output.finish_reason):
            return None  # a part of the prompt has been computed
        if not self._generates:
            output = replace(output, text="", tokens=(), logprobs=(), finish_reason="length")
        first = not self._begun
        self._begun = True
        echoed = self._echoed() if first and self._echo else []
        delta = merge([*echoed, self._delta(output)])
        if first and self._tells_ids:
            delta["prompt_token_ids"] = list(self._prompt.tokens)
        return delta

    def merge(self, deltas: Sequence[Told]) -> Told:
        """The choice of an answer in one piece."""
        return merge(deltas)

    def _delta(self, output: Output) -> Told:
        delta: Told = {
            "index": self._index,
            "text": output.text,
            "logprobs": self._told(output.tokens, output.logprobs),
            "finish_reason": FINISH[output.finish_reason],
        }
        return {**delta, "token_ids": list(output.tokens)} if self._tells_ids else delta

    def _echoed(self) -> list[Told]:
        """The prompt, as if it had been generated."""
        if self._logprobs is None:
            return [{"text": self._prompt.text, "logprobs": None}]
        self._logprobs.follow(self._prompt.text, begun=self._continues)
        return [{"text": self._prompt.text, "logprobs": joined(self._prompt_logprobs)}]

    def _score(self, logprobs: CompletionLogprobs, scored: Sequence[TokenLogprobs]) -> None:
        """Write down those of the prompt's next tokens, as they come: all at once would take long."""
        known = scored if self._scored else [None, *scored]  # nothing precedes the first token
        tokens = self._prompt.tokens[self._scored : self._scored + len(known)]
        self._prompt_logprobs.append(logprobs.write(tokens, known))
        self._scored += len(tokens)

    def _told(self, tokens: Sequence[int], logprobs: Sequence[TokenLogprobs | None]) -> Told | None:
        return None if self._logprobs is None else self._logprobs.write(tokens, logprobs)


def merge(deltas: Sequence[Told]) -> Told:
    """What several deltas tell together: text and lists are joined, of everything else the last one counts."""
    merged: Told = {}
    for delta in deltas:
        merged.update(delta)
    merged["text"] = "".join(delta["text"] for delta in deltas)
    if merged["logprobs"] is not None:
        merged["logprobs"] = joined([delta["logprobs"] for delta in deltas])
    if "token_ids" in merged:
        merged["token_ids"] = [token for delta in deltas for token in delta.get("token_ids", ())]
    return merged
