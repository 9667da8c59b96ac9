"""An engine that does what a test says and when, for what a real one does not do on request: hang, fail, be full."""

import threading
from dataclasses import dataclass, field

from mixtralkit.engine.grammar import Grammars
from mixtralkit.engine.output import OnOutput, Output
from mixtralkit.engine.request import FinishReason, Request
from mixtralkit.engine.snapshot import Snapshot
from mixtralkit.serve.page_state import NOTHING


@dataclass
class ScriptedEngine:
    """Takes requests and says nothing by itself; `refuses` is raised by `submit`, before which `full` tells."""

    refuses: Exception | None = None
    full: bool = False
    seen: Snapshot = NOTHING
    asked: dict[int, tuple[Request, OnOutput]] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def grammars(self) -> Grammars:
        """No test that has this engine sends one, which the server would check here."""
        raise AssertionError("this engine has no grammars; use tests/serve/running_server.py for requests with one")

    def check(self, request: Request) -> None:
        """As the engine's: nothing is wrong."""

    def submit(self, request: Request, on_output: OnOutput, *, checked: bool) -> int:
        """As the engine's."""
        if self.refuses is not None:
            raise self.refuses
        number = len(self.asked)
        self.asked[number] = (request, on_output)
        self.arrived.release()
        return number

    def cancel(self, number: int) -> None:
        """As the engine's."""
        self.cancelled.append(number)

    def snapshot(self) -> Snapshot:
        """As the engine's."""
        return self.seen

    def say(self, number: int, text: str, finish: FinishReason | None = None, error: str | None = None) -> None:
        """Let a request get a token of this text."""
        tokens = () if finish in ("error", "interrupted") else (10,)
        output = Output(number=number, text=text, tokens=tokens, finish_reason=finish, error=error, prompt_tokens=3)
        self.asked[number][1](output)

    def wait(self) -> None:
        """Until the next request has come."""
        assert self.arrived.acquire(timeout=10)
