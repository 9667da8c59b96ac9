"""Responses on the standard output, in MixtralKit's manner, as they come."""

from collections.abc import Sequence

from mixtralkit.cli.terminal import say
from mixtralkit.engine.request import Completion
from mixtralkit.sizes import counted

RULE = "=" * 30


class LiveText:
    """Shows the responses in the order of their prompts: one as it comes, and what others say meanwhile after it.

    `context` is the model's, and `room` for how many tokens of a request there is room.
    """

    def __init__(self, prompts: Sequence[str], *, context: int, room: int) -> None:
        self._prompts = prompts
        self._context_end = _context_end(context, room)
        self._held = [""] * len(prompts)
        self._finished: dict[int, Completion] = {}
        self._current = 0
        self._open()

    def extend(self, number: int, text: str) -> None:
        """More text of response `number` is there."""
        if number == self._current:
            say(text, end="")
        else:
            self._held[number] += text

    def finish(self, number: int, completion: Completion) -> None:
        """Response `number` has ended."""
        self._finished[number] = completion
        while self._current in self._finished:
            say(_closing(self._finished.pop(self._current), self._context_end))
            self._current += 1
            self._open()

    def _open(self) -> None:
        if self._current < len(self._prompts):
            say(_opening(self._prompts[self._current]) + self._held[self._current], end="")


def _opening(prompt: str) -> str:
    return f"{RULE}Example START{RULE}\n\n[Prompt]:\n{prompt}\n\n[Response]:\n"


def _context_end(context: int, room: int) -> str:
    if room < context:
        return f"end of the room for keys and values (--kv-tokens), {room:,} of the model's context of {context:,}"
    return "end of the model's context"


def _closing(completion: Completion, context_end: str) -> str:
    why = {
        "eos": "end of text",
        "stop": "stop string",
        "length": "--max-tokens",
        "context": context_end,
    }
    length = counted(len(completion.tokens), "token")
    return f"\n\n[Ended by]:\n{why[completion.finish_reason]}, {length}\n\n{RULE}Example END{RULE}\n"
