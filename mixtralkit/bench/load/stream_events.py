"""Server-sent events from bytes as they come (the data of each; WHATWG HTML, 9.2), lines ending in LF or CRLF."""


class EventParser:
    """Takes parts of a stream, cut anywhere, and gives the data of the events that they complete."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def push(self, part: bytes) -> list[bytes]:
        """The data of each event that ends in `part`; comments and other fields are left out."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events
