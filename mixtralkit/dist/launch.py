"""Starts the group of ranks, however it was launched, and ends it.

Under torchrun, or srun or mpirun with RANK, WORLD_SIZE and MASTER_* set, the ranks meet at the master's store,
compare what they believe (preflight.py), learn who is on which node, and open the process groups. Without any of
these variables there is one rank and no process group.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from mixtralkit.dist.board import Board
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.device_choice import device_kind, device_of, set_threads
from mixtralkit.dist.failure import GroupFailure
from mixtralkit.dist.joining import join_store, meet, second_connection, take_device
from mixtralkit.dist.preflight import common_beliefs
from mixtralkit.dist.process_groups import open_process_groups
from mixtralkit.dist.topology import Topology, topology_of
from mixtralkit.dist.watchdog import Watchdog
from mixtralkit.env import LaunchEnv, launch_env


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
        LaunchError: the ranks cannot start together; see joining.py and process_groups.py.

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


def open_group(options: LaunchOptions, on_watch: Callable[[Watchdog], None] = lambda watchdog: None) -> Group:
    """Start the group; `start_group` and run_rank.py are the ways to use this.

    `on_watch` is called as soon as the watchdog watches: before the process groups open, which may wait for a rank
    that is lost by then.
    """
    env = launch_env()
    kind = device_kind(options.device)
    if env.world_size == 1:
        return _group_of_one(kind, env)
    store = join_store(env, options.join_timeout)
    board = Board(second_connection(store), env.world_size)
    board.open(env.rank)
    beliefs = {**common_beliefs(env.world_size, kind), **options.beliefs}
    members = meet(store, env, beliefs, options.join_timeout)
    topology = topology_of([member.host_id for member in members])
    node = topology.node_of_rank[env.rank]
    local_rank = topology.local_index(env.rank) if env.local_rank is None else env.local_rank
    device = take_device(store, env, kind, local_rank, options.join_timeout)
    set_threads(len(topology.ranks_of_node(node)))
    watchdog = Watchdog(board, members, env.rank, options.collective_timeout)
    on_watch(watchdog)
    watchdog.start()
    collectives, control = open_process_groups(store, env, device, topology, options.collective_timeout)
    watchdog.count_collectives(lambda: collectives.calls + control.calls)
    collectives.check = control.check = watchdog.check
    return Group(
        rank=env.rank,
        world_size=env.world_size,
        local_rank=local_rank,
        node=node,
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
