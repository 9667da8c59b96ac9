"""What the server is doing: loading, serving, draining, or failed. Set from any thread, read by every route."""

import time
from dataclasses import dataclass
from typing import Literal

from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.served_engine import ServedEngine
from mixtralkit.tokenizer import Tokenizer

Phase = Literal["loading", "ready", "draining", "stuck", "failed"]
STUCK_SECONDS = 30.0  # an engine exchanges something every second, if nothing keeps it
STUCK_STEPS = 5  # a step may take long, but not that many times as long as the one before


@dataclass(frozen=True)
class Served:
    """What is served: `context` is the most tokens that prompt and response may have together."""

    engine: ServedEngine
    tokenizer: Tokenizer
    context: int


class ServerState:
    """Begins with loading. `model_name` is what clients call the model; `queue_limit` requests may wait."""

    def __init__(self, model_name: str, queue_limit: int) -> None:
        self.model_name = model_name
        self.queue_limit = queue_limit
        self.created = int(time.time())
        self.loaded = 0.0  # the part of the weights that is there, 0 to 1
        self._started = time.monotonic()
        self._served: Served | None = None
        self._draining = False
        self._failed: str | None = None

    @property
    def uptime(self) -> float:
        """Seconds since the server was made."""
        return time.monotonic() - self._started

    def serve(self, served: Served) -> None:
        """Loading has ended."""
        self.loaded = 1.0
        self._served = served

    def drain(self) -> None:
        """From now on new requests are refused."""
        self._draining = True

    def fail(self, reason: str) -> None:
        """The engine has failed; the first reason stays."""
        self._failed = self._failed or reason

    @property
    def failed(self) -> bool:
        """Whether the engine has failed."""
        return self._failed is not None

    def now(self) -> tuple[Phase, str | None]:
        """What the server is doing, and unless it is ready, in words."""
        if self._failed is not None:
            return "failed", self._failed
        if self._draining:
            return "draining", "the server is shutting down"
        if self._served is None:
            return "loading", f"the model is being loaded, {self.loaded:.0%} so far"
        snapshot = self._served.engine.snapshot()
        silent = snapshot.seconds_since_step
        if silent > max(STUCK_SECONDS, STUCK_STEPS * snapshot.last_step_seconds):
            return "stuck", f"the ranks have taken no step together for {silent:.0f} s"
        return "ready", None

    @property
    def full(self) -> bool:
        """Whether there is no room in the engine for a further request."""
        return self._served is not None and self._served.engine.full

    @property
    def loaded_model(self) -> Served | None:
        """What is served, None while loading."""
        return self._served

    def take_request(self) -> Served:
        """What serves a new request. Raises `HttpError` 503 while loading, draining or after a failure."""
        if self._served is not None and not self._draining and self._failed is None:
            return self._served
        phase, reason = self.now()
        raise HttpError(503, f"{reason}; try again later", code=f"server_{phase}")

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, also while draining. Raises `HttpError` 503 while loading."""
        return self.take_request().tokenizer if self._served is None else self._served.tokenizer
