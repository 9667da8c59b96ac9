"""As many clients as the server has room for, and ten times as many: what happens to those who are let in."""

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load.answers import BrokenAnswer, events
from benchmarks.load.client import Client
from mixtralkit.bench.load.http_connection import HttpFailed
from mixtralkit.bench.load.load_figures import Spread, spread_of

PATH = "/v1/completions"
PATIENCE = 120.0  # seconds without a byte, far above what any answer needs
PROMPT_TOKENS, OUTPUT_TOKENS = 32, 32
WARM_SHARE = 0.25  # of the time, in which the queue fills; it does not count
BUSY = (429, 503)


@dataclass(frozen=True)
class Crowd:
    """What so many clients met who ask again as soon as they are answered, or may. Times are in seconds.

    `first_token` counts from the sending of a request that was let in. `refused` is by status; whatever is neither
    answered nor refused as it should be is one of the `problems`, which are counted by their words.
    """

    clients: int
    seconds: float
    answered: int
    refused: dict[str, int]
    problems: dict[str, int]
    first_token: Spread | None
    latency: Spread | None


@dataclass
class _Log:
    """Of all clients; `counts_from` is when it begins to count."""

    counts_from: float
    until: float
    first_tokens: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)

    def counts(self) -> bool:
        """Whether what ends now counts."""
        return self.counts_from <= time.monotonic() <= self.until


async def crowd(url: str, clients: int, seconds: float, seed: int, vocabulary: int) -> Crowd:
    """Let so many clients ask for so long."""
    now = time.monotonic()
    log = _Log(now + WARM_SHARE * seconds, now + seconds)
    asking = (_ask_on(url, random.Random(f"{seed} {number}"), vocabulary, log) for number in range(clients))
    await asyncio.gather(*asking)
    return Crowd(
        clients=clients,
        seconds=(1 - WARM_SHARE) * seconds,
        answered=len(log.latencies),
        refused=dict(log.refused),
        problems=dict(log.problems),
        first_token=spread_of(log.first_tokens),
        latency=spread_of(log.latencies),
    )


async def _ask_on(url: str, numbers: random.Random, vocabulary: int, log: _Log) -> None:
    """One client. It begins at some time in the first second, as nobody comes all at once."""
    client = Client(url, PATIENCE)
    await asyncio.sleep(numbers.random())
    while time.monotonic() < log.until:
        try:
            wait = await _ask(client, _body(numbers, vocabulary), log)
        except (HttpFailed, BrokenAnswer, OSError) as error:
            log.problems[repr(error)] += 1
            wait = 1.0
        await asyncio.sleep(min(wait * numbers.uniform(1, 1.5), max(log.until - time.monotonic(), 0)))
    client.close()


async def _ask(client: Client, body: bytes, log: _Log) -> float:
    """One request; returns after how many seconds to come again."""
    sent = time.monotonic()
    async with client.post(PATH, body) as reply:
        if reply.status != 200:
            return _refused(reply.status, reply.retry_after, await reply.body(), log)
        first: float | None = None
        async for _ in events(reply.parts):
            first = first or time.monotonic() - sent
    if log.counts() and first is not None:
        log.first_tokens.append(first)
        log.latencies.append(time.monotonic() - sent)
    return 0.0


def _refused(status: int, retry_after: float | None, answer: bytes, log: _Log) -> float:
    if status not in BUSY or retry_after is None:
        log.problems[f"{status}, Retry-After {retry_after}: {answer[:200]!r}"] += 1
        return 1.0
    if log.counts():
        log.refused[str(status)] += 1
    return retry_after


def _body(numbers: random.Random, vocabulary: int) -> bytes:
    prompt = [numbers.randrange(3, vocabulary) for _ in range(PROMPT_TOKENS)]
    asked: dict[str, Any] = {"prompt": prompt, "max_tokens": OUTPUT_TOKENS, "ignore_eos": True, "stream": True}
    return json.dumps({**asked, "temperature": 0}).encode()
