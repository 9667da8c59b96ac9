"""Many clients at once, as `python -m benchmarks.load` sends them for minutes; here for seconds, and without timing.

Some ask twice, and the streams must equal the answers in one piece; some leave, break off, or do not read.
"""

import asyncio
import gc
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.load.overload import crowd
from benchmarks.load.refused_bodies import REFUSED
from benchmarks.load.resources import growth_of
from benchmarks.load.storm import Storm, at_rest, storm
from benchmarks.load.tally import Tally
from benchmarks.load.verdicts import MOST_THREADS, is_flat
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request_progress import RequestProgress
from mixtralkit.engine.running import RunningRequest
from mixtralkit.engine.sampling import Sampler
from mixtralkit.engine.ticket import Ticket
from mixtralkit.serve.http_protocol import HttpProtocol
from mixtralkit.serve.outputs import Outputs
from mixtralkit.serve.request_facts import RequestFacts
from tests.cli.served import served
from tests.serve.running_server import CONFIG, RunningServer, running_server

OF_A_REQUEST = (Ticket, RequestProgress, RunningRequest, Sampler, Outputs, RequestFacts, HttpProtocol)


def alive() -> Counter[str]:
    """How many objects there are that belong to requests or connections."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in OF_A_REQUEST)


def test_nothing_is_left_of_clients_that_come_and_go(tmp_path: Path) -> None:
    """In this process, so that what is left can be counted. There are too few blocks: requests lose their places."""
    limits = EngineLimits(batch_size=6, max_waiting=16, kv_tokens=384, step_tokens=64, drafts=2)
    with running_server(tmp_path, limits) as server:
        before = alive()
        plan = Storm(clients=20, lead_in=0, seconds=4, seed=1, vocabulary=CONFIG.vocab_size, longest=200)
        after = asyncio.run(storm(server.url, plan, []))
        assert after.tally.problems == []
        assert after.tally.counts["compared"] > 0
        assert after.state["preemptions"] > 0
        server.until(lambda: not alive() - before)


def test_processes_on_two_ranks_neither_grow_nor_keep_anything() -> None:
    """And then ten times as many clients as there is room for: all are answered, or told when to come again."""
    limits = ("--batch-size", "4", "--max-waiting", "12", "--kv-tokens", "1024")
    with served("--nproc", "2", *limits) as server:
        pids = [server.process.pid, *server.ranks()]
        plan = Storm(clients=24, lead_in=1, seconds=4, seed=2, vocabulary=3072, longest=120)
        after = asyncio.run(storm(server.url, plan, pids))
        assert after.tally.problems == []
        assert after.tally.counts["compared"] > 0
        for series in after.watch.series.values():
            growth = growth_of(series)
            assert is_flat(growth)
            assert growth.more_threads <= MOST_THREADS
            assert growth.more_files <= 0
        many = asyncio.run(crowd(server.url, 10 * (2 * 4 + 12), 3, 3, 3072))
        assert many.problems == {}
        assert many.answered > 0
        assert set(many.refused) == {"429"}
        tally = Tally()
        asyncio.run(at_rest(server.url, tally))
        assert tally.problems == []
    assert [line for line in server.errors if "Traceback" in line or "failed" in line] == []


@pytest.mark.parametrize(("path", "body", "status"), REFUSED)
def test_what_is_refused_among_the_others(server: RunningServer, path: str, body: bytes, status: int) -> None:
    """Alone, where no full queue comes before."""
    with server.client() as client:
        response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == status
