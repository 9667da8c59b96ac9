"""Starts the ranks of this node with torchrun's own launcher, after asking what torchrun waits for in silence.

With several nodes, one launcher is started on each. They meet at the master's port first: an unknown host name, a
port in use, a master out of reach or a missing node is said within seconds. torchrun then shares the same store.
"""

import json
import logging
import signal
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch.distributed.distributed_c10d import Store
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mixtralkit import __version__
from mixtralkit.dist.address import Master
from mixtralkit.dist.meeting import RollCall, open_store
from mixtralkit.dist.preflight import check_agreement
from mixtralkit.dist.process_state import TERMINATED
from mixtralkit.dist.signal_forwarding import FORWARDED, SignalForwarding
from mixtralkit.env import quiet_torch
from mixtralkit.errors import UsageError

DEFAULT_PORT = 29500
_NO_ERROR_FILE = "<N/A>"  # torch's word for a process that left none


@dataclass(frozen=True)
class NodeOptions:
    """Which ranks to start here: `nproc` of them, on node `node_rank` of `nnodes`.

    `join_timeout` is how long to wait for the other nodes, in seconds. Raises `UsageError` on contradictions.
    """

    nproc: int
    nnodes: int = 1
    node_rank: int = 0
    master_addr: str | None = None
    master_port: int = DEFAULT_PORT
    join_timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.nproc < 1 or self.nnodes < 1:
            raise UsageError(f"--nproc is {self.nproc} and --nnodes is {self.nnodes}; both must be at least 1")
        if not 0 <= self.node_rank < self.nnodes:
            raise UsageError(
                f"--node-rank is {self.node_rank}; with --nnodes {self.nnodes} it is one of 0 to {self.nnodes - 1}"
            )
        if self.nnodes > 1 and self.master_addr is None:
            raise UsageError("--nnodes needs --master-addr: the name or address of the node with --node-rank 0")


def launch_ranks(
    command: Sequence[str], options: NodeOptions, report: Callable[[str], None], *, forward_signals: bool = False
) -> int:
    """Run `command`, a program and its arguments, as every rank of this node; returns the exit status for this process.

    The ranks report their failures themselves; `report` gets what they could not say. SIGTERM and SIGINT end the ranks.
    With `forward_signals` the first of them only reaches them, as SIGTERM, and they may take their time: for ranks that
    have an `on_stop` (run_rank.py).

    Raises:
        LaunchError: the nodes cannot meet.

    """
    quiet_torch()
    _silence_torchrun()
    store = None if options.nnodes == 1 else _meet(options)
    program, *arguments = [word.replace("$", "$$") for word in command]  # torchrun substitutes ${local_rank}
    forwarding = SignalForwarding(FORWARDED if forward_signals else ())
    try:
        with forwarding:
            elastic_launch(_config(options, forwarding.left_to_torch), program)(*arguments)
    except ChildFailedError as error:
        if forwarding.received and _ended_by_sigterm(error.failures):
            return 128 + forwarding.received  # they had not come to the point where they can stop in good order
        return _status(error.failures, report)
    except SignalException as error:
        return 128 + (forwarding.received or error.sigval)
    finally:
        del store  # torchrun's store used its server until now
    return 0


def _config(options: NodeOptions, signals: str) -> LaunchConfig:
    """Torchrun's settings: its own rendezvous on one node, the node ranks as given on several; no restarts.

    `signals` are those that it handles, as the setting has them.
    """
    alone = options.nnodes == 1
    return LaunchConfig(
        min_nodes=options.nnodes,
        max_nodes=options.nnodes,
        nproc_per_node=options.nproc,
        run_id=uuid.uuid4().hex if alone else "mixtralkit",
        rdzv_backend="c10d" if alone else "static",
        rdzv_endpoint="localhost:0" if alone else f"{options.master_addr}:{options.master_port}",
        rdzv_configs={"timeout": round(options.join_timeout)} | ({} if alone else {"rank": options.node_rank}),
        local_addr="localhost" if alone else None,  # a laptop's own host name is often unknown to it
        max_restarts=0,
        signals_to_handle=signals,
    )


def _meet(options: NodeOptions) -> Store:
    """Wait until the launchers of all nodes are there; returns the store they met at, to be kept while they run."""
    if options.master_addr is None:
        raise AssertionError("NodeOptions asks for --master-addr")
    master = Master(options.master_addr, options.master_port, "--master-addr", "--master-port")
    store = open_store(master, serve=options.node_rank == 0, timeout=options.join_timeout)
    host = socket.gethostname()

    def check(present: Mapping[int, str]) -> None:
        cards = {node: json.loads(card) for node, card in sorted(present.items())}
        check_agreement({f"node {node} ({card['host']})": card["beliefs"] for node, card in cards.items()})

    meeting = RollCall(
        noun="node",
        index=options.node_rank,
        count=options.nnodes,
        card=json.dumps({"host": host, "beliefs": {"--nnodes": str(options.nnodes), "mixtralkit": __version__}}),
        check=check,
        advice=f"start the same command on each node with its own --node-rank, or lower --nnodes {options.nnodes}",
    )
    meeting.hold(store, options.join_timeout)
    return store


def _status(failures: Mapping[int, ProcessFailure], report: Callable[[str], None]) -> int:
    """The exit status for `failures`, by rank; reports them if none of these ranks lived to do it."""
    statuses = [failure.exitcode for failure in failures.values()]
    if all(failure.error_file == _NO_ERROR_FILE for failure in failures.values()):
        report("; ".join(_ended(rank, failure) for rank, failure in sorted(failures.items())))
    return next((status for status in statuses if status > 0), 128 - min(statuses))


def _ended_by_sigterm(failures: Mapping[int, ProcessFailure]) -> bool:
    return all(failure.exitcode in (-signal.SIGTERM, TERMINATED) for failure in failures.values())


def _ended(rank: int, failure: ProcessFailure) -> str:
    who = f"rank {rank} on {socket.gethostname()} (pid {failure.pid})"
    if failure.exitcode >= 0:
        return f"{who} ended with exit status {failure.exitcode}"
    return f"{who} was killed by {signal.Signals(-failure.exitcode).name}"


def _silence_torchrun() -> None:
    """Keep torchrun's own account of a failed rank off the screen: the ranks give theirs."""
    logger = logging.getLogger("torch.distributed.elastic")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
