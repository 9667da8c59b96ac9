"""Guesses of the next tokens without a second model: what followed the same words before (prompt lookup)."""

from collections.abc import Sequence

import numpy as np

LONGEST = 3  # tokens of the end that are looked for; fewer where so many are not found
ROOM = 256  # tokens that the buffer grows by at least


class PromptLookup:
    """The tokens of one request, prompt and response, searchable for an earlier occurrence of their end."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = np.empty(len(tokens) + ROOM, dtype=np.int32)
        self._tokens[: len(tokens)] = tokens
        self._count = len(tokens)

    def push(self, token: int) -> None:
        """The response has one more token."""
        if self._count == self._tokens.size:
            self._tokens = np.concatenate([self._tokens, np.empty(max(ROOM, self._count), dtype=np.int32)])
        self._tokens[self._count] = token
        self._count += 1

    def propose(self, most: int) -> list[int]:
        """Up to `most` tokens that may come next: those after the latest occurrence of the longest end found before.

        Where that occurrence runs into the end, the text repeats itself and the guess goes on repeating it. Empty
        when not even the last token was there before.
        """
        after = self._after_match()
        if after is None:
            return []
        period = self._count - after
        return [int(self._tokens[after + i % period]) for i in range(most)]

    def _after_match(self) -> int | None:
        """The position after the latest earlier occurrence of the longest of the ends; None if there is none."""
        tokens = self._tokens[: self._count]
        ends = np.flatnonzero(tokens[:-1] == tokens[-1])  # where occurrences of what was compared so far end
        latest = ends[-1:]
        for back in range(1, min(LONGEST, self._count)):
            ends = ends[ends >= back]
            ends = ends[tokens[ends - back] == tokens[-1 - back]]
            latest = ends[-1:] if ends.size else latest
        return int(latest[0]) + 1 if latest.size else None
