"""Keeps the event loop free: what takes long is done in a thread beside it, two at a time.

Tokenizing a long prompt takes milliseconds and more, in which no other client would get a token. Reading JSON holds the
interpreter whatever thread it is on: request_body.py sees to it that it does not take long.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")
LIGHT_BYTES = 16 * 1024
_THREADS = 2


class HeavyWork:
    """The threads. What is `light` is done at once."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "serve-heavy")

    async def __call__(self, nbytes: int, work: Callable[[], Result]) -> Result:
        """The result of `work`, which is about as much as tokenizing so many bytes."""
        if nbytes <= LIGHT_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
