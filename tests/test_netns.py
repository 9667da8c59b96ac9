"""Hosts on links of a chosen rate: they reach each other, and both directions of a link get the rate at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns import bits_per_second, hosts, two_hosts, why_not

PROGRAM = str(Path(__file__).with_name("both_ways.py"))
RATE, BYTES = "10mbit", 1_000_000  # slow, so that a busy machine keeps up with it
REASON = why_not(RATE)


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
@pytest.mark.parametrize("count", [2, 3])
def test_both_directions_have_the_rate_at_once(count: int) -> None:
    """Headers take 5 % of 1.25 MB/s; directions that shared the rate would get half of it."""
    with hosts(count, RATE) as group:
        server, client = group[0], group[-1]
        processes = [
            server.start([sys.executable, PROGRAM, str(BYTES)], stdout=subprocess.PIPE),
            client.start([sys.executable, PROGRAM, str(BYTES), server.address], stdout=subprocess.PIPE),
        ]
        try:
            rates = [float(process.communicate(timeout=30)[0]) for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert all(0.75e6 < rate <= 1.25e6 for rate in rates)
        assert all(BYTES < host.bytes_sent() < 1.2 * BYTES for host in (server, client))


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_nothing_is_left_behind() -> None:
    def namespaces() -> str:
        return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout

    own = f"mk{os.getpid()}-"
    with hosts(4) as group:
        assert all(host.name in namespaces() for host in group)
        assert namespaces().count(own) == 5  # with the switch
    with two_hosts() as (first, second):
        assert (first.address, second.address) == ("10.77.0.1", "10.77.0.2")
    assert own not in namespaces()


def test_rates_are_read_as_tc_writes_them() -> None:
    assert [bits_per_second(rate) for rate in ("100mbit", "1gbit", "500kbit")] == [10**8, 10**9, 5 * 10**5]
    for rate in ("100", "fast", "1.5gbit", "mbit"):
        with pytest.raises(ValueError, match="is no rate"):
            bits_per_second(rate)
