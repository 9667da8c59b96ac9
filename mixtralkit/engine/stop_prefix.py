"""How much of a stop string a text that grows ends with, in a time that does not depend on the length of either."""


class StopPrefix:
    """`size` is the length of the longest proper beginning of `stop` with which the text ends (after Knuth)."""

    def __init__(self, stop: str) -> None:
        self._stop = stop
        self._borders = [0, 0]  # of stop[:size], as far as was needed: the longest proper beginning that it ends with
        self.size = 0

    def push(self, text: str) -> None:
        """Go on with the text."""
        for character in text:
            self._push(character)

    def _push(self, character: str) -> None:
        before = self.size
        self.size = self._longer(before, character)
        if self.size == len(self._borders):
            self._borders.append(self._longer(self._borders[before], character))
        if self.size == len(self._stop):
            self.size = self._borders[self.size]

    def _longer(self, size: int, character: str) -> int:
        """The longest beginning that a text ends with which ended with this one before `character`."""
        while size and self._stop[size] != character:
            size = self._borders[size]
        return size + (self._stop[size] == character)
