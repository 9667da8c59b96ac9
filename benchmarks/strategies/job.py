"""Runs the main job on hosts of its own: torchrun in each namespace, one rank a host, as on real machines."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.netns import Host, hosts

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "tools" / "example.py")
PORT = 29540
PATIENCE = 1800.0  # seconds, far above what any job needs
GRACE = 10.0  # seconds that torchrun has to end its ranks
SHOWN = 3000  # characters of what a failed job wrote


@dataclass(frozen=True)
class Done:
    """What a job answered and reported, and the bytes that left its hosts, counted by their interfaces."""

    responses: tuple[str, ...]
    report: dict[str, Any]
    wire_bytes: int


def run_alone(words: Sequence[str], logs: Path, ranks: int = 1) -> Done:
    """One process without a network, which `words` may let start `ranks`; else as `run_on_hosts`."""
    with ExitStack() as stack:
        outputs = _outputs(stack, logs, 0)
        process = subprocess.Popen(
            [sys.executable, EXAMPLE, *words], env=_variables(ranks), text=True, start_new_session=True, **outputs
        )
        _wait([process])
    return _done([process], logs, 0)


def run_on_hosts(words: Sequence[str], *, count: int, rate: str, logs: Path) -> Done:
    """One rank on each of `count` hosts, whose links have that rate; the folder `logs` gets what each host wrote.

    Raises `RuntimeError` with the end of that when a host's torchrun fails.
    """
    with ExitStack() as stack:
        group = stack.enter_context(hosts(count, rate))
        processes = [
            host.start(_torchrun(group, node, words), env=_variables(count), **_outputs(stack, logs, node))
            for node, host in enumerate(group)
        ]
        _wait(processes)
        wire_bytes = sum(host.bytes_sent() for host in group)
    return _done(processes, logs, wire_bytes)


def _torchrun(group: Sequence[Host], node: int, words: Sequence[str]) -> list[str]:
    where = ["--nnodes", str(len(group)), "--node_rank", str(node), "--nproc_per_node", "1"]
    master = ["--master_addr", group[0].address, "--master_port", str(PORT)]
    return [sys.executable, "-m", "torch.distributed.run", *where, *master, EXAMPLE, *words]


def _variables(ranks: int) -> dict[str, str]:
    """The processors shared among the ranks, and no strategy but those of the flags."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FMOE_")}
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR"}


def _outputs(stack: ExitStack, logs: Path, node: int) -> dict[str, Any]:
    logs.mkdir(parents=True, exist_ok=True)
    streams = {"stdout": f"{node}.out", "stderr": f"{node}.err"}
    return {stream: stack.enter_context((logs / file).open("w")) for stream, file in streams.items()}


def _wait(processes: Sequence["subprocess.Popen[str]"]) -> None:
    """Until all have ended; none is left running, whatever happens."""
    try:
        for process in processes:
            process.wait(PATIENCE)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _done(processes: Sequence["subprocess.Popen[str]"], logs: Path, wire_bytes: int) -> Done:
    for node, process in enumerate(processes):
        if process.returncode:
            written = (logs / f"{node}.err").read_text(encoding="utf-8")[-SHOWN:]
            raise RuntimeError(f"the job on host {node} ended with status {process.returncode}:\n{written}")
    document = json.loads((logs / "0.out").read_text(encoding="utf-8"))
    responses = tuple(completion["response"] for completion in document["completions"])
    return Done(responses, document["report"], wire_bytes)
