"""What the server needs of an engine. Everything may be called from any thread, and nothing waits for a step."""

from typing import Protocol

from mixtralkit.engine.grammar import Grammars
from mixtralkit.engine.output import OnOutput
from mixtralkit.engine.request import Request
from mixtralkit.engine.snapshot import Snapshot


class ServedEngine(Protocol):
    """`engine.engine.Engine` on rank 0 is one."""

    @property
    def grammars(self) -> Grammars:
        """Those that requests may come with."""

    def check(self, request: Request) -> None:
        """Raise `RequestError` when the request cannot be served. A grammar that is not known takes seconds."""

    def submit(self, request: Request, on_output: OnOutput, *, checked: bool) -> int:
        """Take in a request that has been `checked`; returns its number. `on_output` is called in the engine's thread.

        Raises `QueueFull` when too many wait already, and `EngineClosed`.
        """

    @property
    def full(self) -> bool:
        """Whether there is room for no further request."""

    def cancel(self, number: int) -> None:
        """End a request as it is; without effect where it has ended."""

    def snapshot(self) -> Snapshot:
        """How things stand."""
