"""A thread that does what it is given, one after the other."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class SecondThread:
    """For the time of a `with` block.

    Unlike an executor of concurrent.futures it still works when the interpreter is on its way out, as it is for who
    closes the engine last.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """Have `call` called when all that was submitted before is done."""
        future: Future[T] = Future()
        self._jobs.put((future, call))
        return future

    def __enter__(self) -> "SecondThread":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call = job
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
                future.set_exception(error)
