"""Many clients at once for a while, and what is left when they have gone: nothing, and no more memory than before."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.load.client import Client
from benchmarks.load.random_bodies import RandomBodies
from benchmarks.load.resources import Watch
from benchmarks.load.tally import Tally
from benchmarks.load.visitor import Visitor

PATIENCE = 120.0  # seconds without a byte, far above what any answer needs
REST_SECONDS = 10.0  # until everything must be free again
BUSY = ("running", "waiting", "kv_usage")


@dataclass(frozen=True)
class Storm:
    """How many clients, for how many seconds after a `lead_in` that does not count, and what they draw from."""

    clients: int
    lead_in: float
    seconds: float
    seed: int
    vocabulary: int
    longest: int


@dataclass(frozen=True)
class Aftermath:
    """`state` is what the server tells of itself at rest, `busiest` the most that it had to do at a time, and in how
    many `seconds` at most it told that.
    """

    tally: Tally
    watch: Watch
    state: dict[str, Any]
    busiest: dict[str, float]


async def storm(url: str, plan: Storm, pids: Sequence[int]) -> Aftermath:
    """Run it; `pids` are the server's processes. What must not be becomes a problem of the tally."""
    tally, busiest = Tally(), dict.fromkeys((*BUSY, "seconds"), 0.0)
    await _come_and_go(url, plan, plan.lead_in, tally)
    await at_rest(url, tally)
    watch = Watch(pids)
    watching = [asyncio.create_task(watch.run()), asyncio.create_task(_look_on(url, busiest, tally))]
    await asyncio.sleep(0)  # in which it looks for the first time
    await _come_and_go(url, plan, plan.seconds, tally)
    for task in watching:
        task.cancel()
    state = await at_rest(url, tally)
    watch.look()
    return Aftermath(tally, watch, state, busiest)


async def at_rest(url: str, tally: Tally) -> dict[str, Any]:
    """The server's state once it has nothing to do, which is a problem if it does not come."""
    until = time.monotonic() + REST_SECONDS
    while True:
        state = await _state(url)
        if not any(state[name] for name in BUSY):
            return state
        if time.monotonic() > until:
            left = {name: state[name] for name in BUSY}
            tally.problem(f"{REST_SECONDS:g} s after the last client went there are still {left}")
            return state
        await asyncio.sleep(0.1)


async def _come_and_go(url: str, plan: Storm, seconds: float, tally: Tally) -> None:
    until = time.monotonic() + seconds
    await asyncio.gather(*(_stay(url, plan, f"{seconds} {number}", until, tally) for number in range(plan.clients)))


async def _stay(url: str, plan: Storm, name: str, until: float, tally: Tally) -> None:
    numbers = random.Random(f"{plan.seed} {name}")
    client = Client(url, PATIENCE)
    visitor = Visitor(client, RandomBodies(numbers, plan.vocabulary, plan.longest), numbers, tally)
    while time.monotonic() < until:
        await visitor.visit()
    client.close()


async def _look_on(url: str, busiest: dict[str, float], tally: Tally) -> None:
    """As a monitor does: the server has to answer at once however much it has to do."""
    while True:
        asked = time.monotonic()
        state = await _state(url)
        for name in BUSY:
            busiest[name] = max(busiest[name], state[name])
        if state["state"] != "ready":
            tally.problem(f"the server is {state['state']}: {state['reason']}")
        busiest["seconds"] = max(busiest["seconds"], time.monotonic() - asked)
        await asyncio.sleep(1)


async def _state(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        answer = await client.get(f"{url}/page/state.json")
    state: dict[str, Any] = json.loads(answer.content)
    return state
