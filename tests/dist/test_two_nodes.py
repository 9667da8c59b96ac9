"""Two hosts in network namespaces, launched as on two machines: by torchrun and by mixtralkit's own launcher."""

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.dist.processes import KILLED, Run, end_session, environment, finish, torchrun, wait_for_start
from tests.netns import Host, two_hosts, why_not

PORT = 29540
REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as pair:
        yield pair


def start_torchrun(hosts: tuple[Host, Host], *arguments: str) -> list["subprocess.Popen[str]"]:
    """The user's command on both hosts, two ranks on the first and one on the second."""
    return [
        start_on(host, torchrun(nproc, *arguments, options=_options(hosts[0], node)))
        for node, (host, nproc) in enumerate(zip(hosts, (2, 1), strict=True))
    ]


def start_on(host: Host, command: list[str]) -> "subprocess.Popen[str]":
    return host.start(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_group_over_two_hosts_runs_as_typed(hosts: tuple[Host, Host]) -> None:
    """No variable says which interface to use, and no host can look up its own name."""
    first, second = finish(start_torchrun(hosts, "ok"))
    assert (first.status, second.status) == (0, 0), first.output + second.output
    assert "rank 1 of 3, local 1 on node 0" in first.output
    assert "rank 2 of 3, local 0 on node 1" in second.output


def test_both_hosts_hear_how_a_rank_of_one_was_killed(hosts: tuple[Host, Host]) -> None:
    for run in finish(start_torchrun(hosts, "kill", "0")):
        assert run.status == 1
        assert len(run.reports) == 1
        assert re.fullmatch(rf"rank 0 on {hosts[0].name} \(pid \d+\) {KILLED}; last seen at step 5", run.reports[0])


def test_hosts_cut_off_from_each_other_end_in_the_same_words(hosts: tuple[Host, Host]) -> None:
    processes = start_torchrun(hosts, "ok", "--timeout", "4", "--steps", "100000")
    for process in processes:
        wait_for_start(process)
    time.sleep(1.5)  # some beats, so that each side knows where the other is
    hosts[0].cut()
    first, second = finish(processes)
    _ends_with_loss(first, lost=2, host=hosts[1])
    _ends_with_loss(second, lost=0, host=hosts[0])
    assert not any(end_session(process) for process in processes)


def _ends_with_loss(run: Run, *, lost: int, host: Host) -> None:
    assert run.status == 1
    assert len(run.reports) == 1
    pattern = rf"rank {lost} on {host.name} \(pid \d+\) has not answered for \d+ s; last seen at step \d+"
    assert re.fullmatch(pattern, run.reports[0])


def _options(master: Host, node: int) -> tuple[str, ...]:
    return ("--nnodes", "2", "--node_rank", str(node), "--master_addr", master.address, "--master_port", str(PORT))
