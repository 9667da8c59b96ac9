"""What the server needs of an engine. Everything may be called from any thread, and nothing waits for a step."""

from typing import Protocol

from mixtralkit.engine.output import OnOutput
from mixtralkit.engine.request import Request
from mixtralkit.engine.snapshot import Snapshot


class ServedEngine(Protocol):
    """`engine.engine.Engine` on rank 0 is one."""

    def submit(self, request: Request, on_output: OnOutput) -> int:
        """Take in a request; returns its number. `on_output` is called in the engine's thread.

        Raises `RequestError` when the request cannot be served, and `QueueFull` when too many wait already.
        """

    @property
    def full(self) -> bool:
        """Whether there is room for no further request."""

    def cancel(self, number: int) -> None:
        """End a request as it is; without effect where it has ended."""

    def snapshot(self) -> Snapshot:
        """How things stand."""
