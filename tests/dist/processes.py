"""Starts the ranks of a program as real processes and collects how they end."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = str(Path(__file__).with_name("program.py"))
SERVER = str(Path(__file__).with_name("server_program.py"))
# How a rank that got SIGKILL is named. On a busy machine torchrun may ask for its exit status before its neighbours do,
# and then nobody but torchrun, in its own report, can tell the signal.
KILLED = r"(was killed by SIGKILL|is gone \(killed, or out of memory\))"
PATIENCE = 90.0  # seconds; far above what any run needs, so that a hang fails the test and not the machine


@dataclass(frozen=True)
class Run:
    """How one process ended."""

    status: int
    output: str

    @property
    def reports(self) -> list[str]:
        """The texts that were reported, by their first lines."""
        return [line.removeprefix("REPORT ") for line in self.output.splitlines() if line.startswith("REPORT ")]


def environment(**more: str) -> dict[str, str]:
    """An environment without traces of another launcher."""
    dropped = (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "GLOO_SOCKET_IFNAME",
    )
    kept = {name: value for name, value in os.environ.items() if name not in dropped and "TORCHELASTIC" not in name}
    root = str(Path(__file__).parents[2])
    return {**kept, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", **more}


def torchrun(
    nproc: int, *arguments: str, options: Sequence[str] = ("--standalone",), program: str = PROGRAM
) -> list[str]:
    """The command line of torchrun with `program`."""
    return [sys.executable, "-m", "torch.distributed.run", *options, f"--nproc_per_node={nproc}", program, *arguments]


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
    """Run `command` to its end; nothing of its session is left behind."""
    return finish([start(command, env)])[0]


def run_by_hand(world_size: int, *arguments: str, sizes: Mapping[int, int] | None = None) -> list[Run]:
    """`start_by_hand`, and the ends of all."""
    return finish(start_by_hand(world_size, *arguments, sizes=sizes))


def start_by_hand(
    world_size: int, *arguments: str, sizes: Mapping[int, int] | None = None, program: str = PROGRAM
) -> list["subprocess.Popen[str]"]:
    """One process a rank with the variables set as for srun, without torchrun; `sizes` are other WORLD_SIZEs."""
    port = str(free_port())
    ranks = []
    for rank in range(world_size):
        size = str((sizes or {}).get(rank, world_size))
        variables = environment(RANK=str(rank), WORLD_SIZE=size, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        ranks.append(start([sys.executable, program, *arguments], variables))
    return ranks


def start(command: Sequence[str], env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """Start `command` in a session of its own, its two outputs in one."""
    return subprocess.Popen(
        command,
        env=env or environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_start(process: "subprocess.Popen[str]") -> None:
    """Return when a rank of `process` has said that it is in the group."""
    wait_for(process, "rank ")


def wait_for(process: "subprocess.Popen[str]", words: str) -> None:
    """Return when `process` has written `words`; what it has written up to then is gone."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(f"{process.args!r} did not say {words!r}")


def finish(processes: Sequence["subprocess.Popen[str]"]) -> list[Run]:
    """Wait for all `processes` to end; then kill what their sessions still hold."""
    runs = []
    try:
        for process in processes:
            output, _ = process.communicate(timeout=PATIENCE)
            runs.append(Run(process.returncode, output))
    finally:
        for process in processes:
            end_session(process)
    return runs


def end_session(process: "subprocess.Popen[str]") -> bool:
    """Kill what is left of the session that `process` leads; returns whether there was anything."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
