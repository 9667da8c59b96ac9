"""A second lane of work, beside the main one: a thread, and on a GPU a stream of its own."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Done(Generic[T]):
    """What a piece of work gave, and when it ran (time.perf_counter()); on a GPU `finished` is when it really has."""

    value: T
    begin: float
    end: float
    finished: "torch.cuda.Event | None" = None


class Lane:
    """Runs what it is given one after the other, in the order of the calls; without gradients.

    On a GPU, work begins when the stream of the caller has come to the point of `submit`, and `result` lets that stream
    wait for the work. (Not run on a GPU yet.)
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def submit(self, work: Callable[[], T]) -> "Future[Done[T]]":
        """Run `work` in its turn; an error it raises comes out of `result`."""
        ready = None if self._stream is None else torch.cuda.current_stream().record_event()
        return self._thread.submit(self._run, work, ready)

    def result(self, future: "Future[Done[T]]") -> Done[T]:
        """Wait until the work is done."""
        done = future.result()
        if done.finished is not None:
            torch.cuda.current_stream().wait_event(done.finished)
        return done

    def _run(self, work: Callable[[], T], ready: "torch.cuda.Event | None") -> Done[T]:
        begin = time.perf_counter()
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            if self._stream is not None and ready is not None:
                self._stream.wait_event(ready)
            value = work()
            finished = None if self._stream is None else self._stream.record_event()
        return Done(value, begin, time.perf_counter(), finished)
