"""How much room each rank has for keys and values, where the user does not say."""

from dataclasses import replace

from mixtralkit.checkpoint.memory_room import free_memory
from mixtralkit.dist.launch import Group
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.errors import LaunchError
from mixtralkit.model.transformer import Transformer
from mixtralkit.sizes import size

# Of the memory that is free once the weights are loaded. On a CPU mapped weights lie in memory that counts as free.
_SHARE = {"cpu": 0.25, "cuda": 0.8}
_MOST = {"cpu": 1.0, "cuda": 0.9}  # activations, recorded steps and what kernels scratch on need the rest of a GPU


def with_kv_room(limits: EngineLimits, group: Group, model: Transformer) -> EngineLimits:
    """`limits` with a number of `kv_tokens` that all ranks have room for; all ranks call this together.

    Unless the user gave one, it is as many as the running requests of a rank can ever have, or what a share of the
    memory holds that is free. What a user gives beyond that keeps beginnings to be shared later. Raises `LaunchError`
    with the numbers where there is no room for what the user gave, or not even for a block.
    """
    nbytes = model.kv_bytes_per_token
    asked = limits.kv_tokens or limits.batch_size * model.config.context
    free = free_memory(group.device)
    if free is not None:
        neighbours = len(group.topology.ranks_of_node(group.node)) if group.device.type == "cpu" else 1
        share = (_SHARE if limits.kv_tokens is None else _MOST)[group.device.type]
        room = int(free * share) // neighbours // nbytes
        if room < min(asked, limits.block_size) or (limits.kv_tokens is not None and room < asked):
            raise LaunchError(
                f"keys and values of {asked:,} tokens take {size(asked * nbytes)} on rank {group.rank}, and "
                f"{size(free)} are free for {neighbours} of them; give a smaller --kv-tokens or --batch-size"
            )
        asked = min(asked, room)
    return replace(limits, kv_tokens=min(group.control.all_gather_json(asked)))
