"""mixtralkit's own launcher: what it says before torchrun would wait in silence, and what it returns."""

import re
import socket
import subprocess
import sys

import pytest

from mixtralkit.dist.launcher import NodeOptions, launch_ranks
from mixtralkit.errors import LaunchError, UsageError
from tests.dist.processes import PROGRAM, environment, finish, free_port, run

LAUNCH = """
import sys
from mixtralkit.dist.launcher import NodeOptions, launch_ranks
report = lambda text: print("REPORT " + text, file=sys.stderr)
sys.exit(launch_ranks([sys.executable, *sys.argv[2:]], NodeOptions(nproc=int(sys.argv[1])), report))
"""
PRINT_ARGUMENTS = "import sys; print(sys.argv[1:])"


def launch(nproc: int, *command: str) -> list[str]:
    return [sys.executable, "-c", LAUNCH, str(nproc), *command]


def two_nodes(**options: object) -> NodeOptions:
    return NodeOptions(**({"nproc": 1, "nnodes": 2, "master_addr": "127.0.0.1", "join_timeout": 1.0} | options))  # type: ignore[arg-type]


def refused(options: NodeOptions) -> str:
    with pytest.raises(LaunchError) as error:
        launch_ranks([sys.executable, "-c", "pass"], options, print)
    return str(error.value)


def test_the_ranks_report_and_torchrun_keeps_quiet() -> None:
    ended = run(launch(2, PROGRAM, "user-error", "0"))
    assert ended.status == 1
    assert ended.reports == ["part 3 is missing"]
    assert "torch" not in ended.output


def test_ranks_that_could_not_speak_are_reported_by_the_launcher() -> None:
    ended = run(launch(1, "-c", "import os; os.kill(os.getpid(), 9)"))
    assert ended.status == 128 + 9
    assert re.fullmatch(r"rank 0 on \S+ \(pid \d+\) was killed by SIGKILL", ended.reports[0])


def test_arguments_arrive_unchanged() -> None:
    """Torchrun replaces ${local_rank} and $$ in arguments; a prompt may hold both."""
    ended = run(launch(1, "-c", PRINT_ARGUMENTS, "$5 or $$", "${local_rank}"))
    assert str(["$5 or $$", "${local_rank}"]) in ended.output


def test_an_unknown_master_is_named_with_its_flag() -> None:
    assert re.match(
        r"the master's host name 'no-such-host.invalid' is unknown on .*; give --master-addr ",
        refused(two_nodes(master_addr="no-such-host.invalid")),
    )


def test_what_is_no_host_name_or_no_port_is_named_with_its_flag() -> None:
    assert "'node..0' is unknown on" in refused(two_nodes(master_addr="node..0"))
    assert refused(two_nodes(master_port=70000)) == "--master-port is 70000; a port is a number from 1 to 65535"


def test_a_port_in_use_is_named_with_its_flag() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        assert re.match(
            rf"port {port} of .* cannot be used .*; choose another --master-port", refused(two_nodes(master_port=port))
        )


def test_a_missing_node_is_named_with_its_flag() -> None:
    message = refused(two_nodes(nnodes=3, master_port=free_port()))
    assert re.match(r"nodes 1, 2 of 3 did not come within 1 s: .* --node-rank, or lower --nnodes 3", message)


def test_a_master_out_of_reach_is_named_with_its_flags() -> None:
    message = refused(two_nodes(node_rank=1, master_port=free_port()))
    assert re.match(
        r".* cannot reach the master at 127.0.0.1:\d+: connection refused, .*--master-addr and --master-port", message
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nproc": 0}, "--nproc is 0"),
        ({"nproc": 1, "nnodes": 2}, "--nnodes needs --master-addr"),
        ({"nproc": 1, "nnodes": 2, "node_rank": 2, "master_addr": "a"}, "--node-rank is 2; .* one of 0 to 1"),
    ],
)
def test_contradictions_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NodeOptions(**options)  # type: ignore[arg-type]


def test_two_launchers_meet_and_run_one_group() -> None:
    """Both on this machine, as two nodes: the store they meet at is the one that torchrun then uses."""
    port = free_port()
    script = LAUNCH.replace("nproc=int(sys.argv[1])", f"1, 2, int(sys.argv[1]), '127.0.0.1', {port}")
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(node), PROGRAM, "ok"],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        for node in (0, 1)
    ]  # fmt: skip
    first, second = finish(nodes)
    assert (first.status, second.status) == (0, 0), first.output + second.output
    assert "rank 1 of 2" in second.output
