"""How the ranks come together: the store, who everyone is and what they believe, and a device for each."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import cast

import torch
from torch.distributed.distributed_c10d import PrefixStore, Store

from mixtralkit.dist.address import Master
from mixtralkit.dist.device_choice import device_of
from mixtralkit.dist.meeting import RollCall, open_store
from mixtralkit.dist.member import Member, this_member
from mixtralkit.dist.preflight import check_agreement
from mixtralkit.env import LaunchEnv
from mixtralkit.errors import LaunchError


def join_store(env: LaunchEnv, timeout: float) -> Store:
    """The store of this start of the group: torchrun's agent serves it, or else rank 0. Raises `LaunchError`.

    A process may start several groups, one after the other, and each has keys of its own: what the one before has left
    in the store would make ranks wait for addresses where nobody is any more.
    """
    if env.master_addr is None or env.master_port is None:
        raise LaunchError(
            f"RANK and WORLD_SIZE={env.world_size} are set and MASTER_ADDR is not: set it to the host of rank 0, and "
            f"MASTER_PORT to a free port there, or start the program with torchrun"
        )
    # torchrun announces its own host name, which a laptop or a container often cannot look up.
    one_node = env.agent_store and env.local_world_size == env.world_size
    master = Master("127.0.0.1" if one_node else env.master_addr, env.master_port)
    store = open_store(master, serve=env.rank == 0 and not env.agent_store, timeout=timeout)
    start = PrefixStore(f"mixtralkit/{env.restart}", store)
    nth = start.add(f"groups of rank {env.rank}", 1)
    return PrefixStore(f"group {nth}", start)


def second_connection(store: Store) -> Store:
    """A client of the same store that waits for nobody else's calls."""
    return cast(Store, store.clone())  # type: ignore[attr-defined]


def meet(store: Store, env: LaunchEnv, beliefs: Mapping[str, str], timeout: float) -> list[Member]:
    """Exchange who everyone is, and compare what they believe. Raises `LaunchError`, the same on all ranks."""

    def check(present: Mapping[int, str]) -> None:
        cards = [json.loads(present[rank]) for rank in sorted(present)]
        check_agreement({card["name"]: card["beliefs"] for card in cards})

    me = this_member(env.rank)
    meeting = RollCall(
        noun="rank",
        index=env.rank,
        count=env.world_size,
        card=json.dumps({"name": str(me), "member": asdict(me), "beliefs": dict(beliefs)}),
        check=check,
        advice="see what its process has printed, and that every node starts its share of the ranks",
    )
    return [Member(**json.loads(card)["member"]) for card in meeting.hold(store, timeout)]


def take_device(store: Store, env: LaunchEnv, kind: str, local_rank: int, timeout: float) -> torch.device:
    """The device of this rank, once all ranks have one. Raises `LaunchError` on all where one finds no GPU."""
    ready = RollCall(
        noun="device of rank",
        index=env.rank,
        count=env.world_size,
        card=kind,
        check=lambda present: None,
        advice="see what its process has printed",
    )
    with ready.telling(store):
        device = device_of(kind, local_rank)
    ready.hold(store, timeout)
    return device
