"""Starts the group of ranks, however it was launched, and ends it.

Under torchrun, or srun or mpirun with RANK, WORLD_SIZE and MASTER_* set, the ranks meet at the master's store,
compare what they believe (preflight.py), learn who is on which node, and open the process groups. Without any of
these variables there is one rank and no process group.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from mixtralkit.dist.address import Master, interface_towards
from mixtralkit.dist.board import Board
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.device_choice import device_kind, device_of, set_threads
from mixtralkit.dist.failure import GroupFailure
from mixtralkit.dist.meeting import open_store, roll_call
from mixtralkit.dist.member import Member, this_member
from mixtralkit.dist.preflight import check_agreement, common_beliefs
from mixtralkit.dist.topology import Topology, topology_of
from mixtralkit.dist.watchdog import Watchdog
from mixtralkit.env import LaunchEnv, choose_gloo_interface, launch_env
from mixtralkit.errors import LaunchError

_NCCL_EXTRA = 10.0  # NCCL kills the process at its time-out, so the watchdog must have spoken before


@dataclass(frozen=True)
class LaunchOptions:
    """How to start a group. Times are in seconds.

    `device` is "auto", "cpu" or "cuda"; `collective_timeout` bounds every collective, `join_timeout` the wait for
    ranks that have not come; `beliefs` are further things that all ranks must have in common, by their names for
    the user ("--dtype", "checkpoint"), compared as strings.
    """

    device: str = "auto"
    collective_timeout: float = 60.0
    join_timeout: float = 60.0
    beliefs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A rank's view of the running group.

    `collectives` is for tensors on `device`, `control` for small data of the host; both have all ranks.
    `watchdog` is None in a group of one.
    """

    rank: int
    world_size: int
    local_rank: int
    node: int
    topology: Topology
    device: torch.device
    collectives: Collectives
    control: Collectives
    watchdog: Watchdog | None

    def at(self, where: str) -> None:
        """Tell the watchdog where this rank is; see `Watchdog.at`."""
        if self.watchdog is not None:
            self.watchdog.at(where)


@contextmanager
def start_group(options: LaunchOptions) -> Iterator[Group]:
    """The group for the time of a `with` block, which every rank leaves together.

    An error in the block that another rank is the cause of leaves it as `GroupFailure` naming that rank. After
    a failure torch's process groups are left as they are: taking them down may wait for a rank that is gone.

    Raises:
        LaunchError: the ranks cannot start together; see address.py, meeting.py, preflight.py, device_choice.py.

    """
    group = open_group(options)
    try:
        yield group
        close_group(group)
    except Exception as error:
        if group.watchdog is None:
            raise
        failure = group.watchdog.settle(error)
        group.watchdog.farewell()
        group.watchdog.stop()
        if failure.rank == group.rank:
            raise
        raise GroupFailure(failure) from error


def open_group(options: LaunchOptions) -> Group:
    """Start the group; `start_group` and run_rank.py are the ways to use this."""
    env = launch_env()
    kind = device_kind(options.device)
    if env.world_size == 1:
        return _group_of_one(kind, env)
    store = PrefixStore(f"mixtralkit/{env.restart}", _open_store(env, options.join_timeout))
    board = Board(_second_connection(store), env.world_size)
    board.open(env.rank)
    members = _meet(store, env, kind, options)
    topology = topology_of([member.host_id for member in members])
    local_rank = topology.local_index(env.rank) if env.local_rank is None else env.local_rank
    device = device_of(kind, local_rank)
    set_threads(len(topology.ranks_of_node(topology.node_of_rank[env.rank])))
    watchdog = Watchdog(board, members, env.rank, options.collective_timeout)
    watchdog.start()
    collectives, control = _open_process_groups(store, env, device, topology, options.collective_timeout)
    return Group(
        rank=env.rank,
        world_size=env.world_size,
        local_rank=local_rank,
        node=topology.node_of_rank[env.rank],
        topology=topology,
        device=device,
        collectives=collectives,
        control=control,
        watchdog=watchdog,
    )


def close_group(group: Group) -> None:
    """End the group when every rank has come here. Raises `GroupFailure` when one fails before."""
    if group.watchdog is not None:
        group.watchdog.leave()
        dist.destroy_process_group()


def _group_of_one(kind: str, env: LaunchEnv) -> Group:
    local_rank = env.local_rank or 0
    device = device_of(kind, local_rank)
    set_threads(1)
    return Group(
        rank=0,
        world_size=1,
        local_rank=local_rank,
        node=0,
        topology=Topology((0,)),
        device=device,
        collectives=Collectives(None, device),
        control=Collectives(None, torch.device("cpu")),
        watchdog=None,
    )


def _open_store(env: LaunchEnv, timeout: float) -> Store:
    if env.master_addr is None or env.master_port is None:
        raise LaunchError(
            f"RANK and WORLD_SIZE={env.world_size} are set and MASTER_ADDR is not: set it to the host of rank 0, and "
            f"MASTER_PORT to a free port there, or start the program with torchrun"
        )
    # torchrun announces its own host name, which a laptop or a container often cannot look up.
    one_node = env.agent_store and env.local_world_size == env.world_size
    master = Master("127.0.0.1" if one_node else env.master_addr, env.master_port)
    return open_store(master, serve=env.rank == 0 and not env.agent_store, timeout=timeout)


def _second_connection(store: Store) -> Store:
    """A client of the same store that waits for nobody else's calls."""
    return cast(Store, store.clone())  # type: ignore[attr-defined]


def _meet(store: Store, env: LaunchEnv, kind: str, options: LaunchOptions) -> list[Member]:
    """Exchange who everyone is, and compare what they believe."""
    beliefs = {**common_beliefs(env.world_size, kind), **options.beliefs}
    told = json.dumps({"member": asdict(this_member(env.rank)), "beliefs": beliefs})

    def check(present: Mapping[int, str]) -> None:
        cards = [json.loads(present[rank]) for rank in sorted(present)]
        check_agreement({str(Member(**card["member"])): card["beliefs"] for card in cards})

    cards = roll_call(
        store,
        noun="rank",
        index=env.rank,
        count=env.world_size,
        value=told,
        timeout=options.join_timeout,
        advice="see what its process has printed, and that every node starts its share of the ranks",
        check=check,
    )
    return [Member(**json.loads(card)["member"]) for card in cards]


def _open_process_groups(
    store: Store, env: LaunchEnv, device: torch.device, topology: Topology, timeout: float
) -> tuple[Collectives, Collectives]:
    """The groups for tensors and for host data; on the CPU both are the same gloo group."""
    towards_others = "127.0.0.1" if topology.num_nodes == 1 else env.master_addr
    if towards_others and (interface := interface_towards(towards_others)):
        choose_gloo_interface(interface)
    gloo_timeout = timedelta(seconds=timeout)
    if device.type == "cpu":
        dist.init_process_group("gloo", store=store, rank=env.rank, world_size=env.world_size, timeout=gloo_timeout)
        control = dist.group.WORLD
        return Collectives(control, device), Collectives(control, device)
    dist.init_process_group(
        "nccl",
        store=store,
        rank=env.rank,
        world_size=env.world_size,
        timeout=timedelta(seconds=timeout + _NCCL_EXTRA),
        device_id=device,
    )
    control = dist.new_group(backend="gloo", timeout=gloo_timeout)
    return Collectives(dist.group.WORLD, device), Collectives(control, torch.device("cpu"))
