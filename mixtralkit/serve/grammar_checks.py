"""New grammars are checked in a thread of their own, one after the other: each may take seconds."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mixtralkit.engine.grammar import Grammars
from mixtralkit.engine.grammar_trial import Unjudged
from mixtralkit.engine.request import Grammar
from mixtralkit.serve.come_again import ComeAgain
from mixtralkit.serve.http_errors import HttpError, time_out

MOST_WAITING = 16


class GrammarChecks:
    """The thread. Requests with the same grammar wait for the same check, and for at most `MOST_WAITING` others.

    `deadline` is how many seconds after its arrival a request is given up.
    """

    def __init__(self, later: ComeAgain, deadline: float) -> None:
        self._later = later
        self._deadline = deadline
        self._thread = ThreadPoolExecutor(1, "serve-grammars")
        self._running: dict[Grammar, asyncio.Future[None]] = {}

    async def __call__(self, grammars: Grammars, grammar: Grammar, elapsed: float) -> None:
        """Return when the `grammar` of a request that came `elapsed` seconds ago has been checked, now or before.

        Raises `RequestError` for a grammar that cannot be used, and `HttpError`: 429 when too many wait, and 503 when
        the request's time is over or the machine too busy.
        """
        if grammars.knows(grammar):
            return
        check = self._running.get(grammar) or self._start(grammars, grammar)
        try:
            await asyncio.wait_for(asyncio.shield(check), max(self._deadline - elapsed, 0))
        except asyncio.TimeoutError:
            raise time_out(self._deadline) from None
        except Unjudged as error:
            raise HttpError(503, str(error), code="engine_busy") from error

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self, grammars: Grammars, grammar: Grammar) -> "asyncio.Future[None]":
        if len(self._running) >= MOST_WAITING:
            raise self._later.refusal()
        check = asyncio.get_running_loop().run_in_executor(self._thread, grammars.check, grammar)
        self._running[grammar] = check
        check.add_done_callback(partial(self._forget, grammar))
        return check

    def _forget(self, grammar: Grammar, check: "asyncio.Future[None]") -> None:
        del self._running[grammar]
        if not check.cancelled():
            check.exception()  # or asyncio complains when all who waited have given up
