"""The only place that reads the environment. Each group of variables is read once, into a frozen dataclass."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixtralkit.errors import UsageError


@dataclass(frozen=True)
class LaunchEnv:
    """What torchrun says about this process; the defaults describe a process of its own.

    Numbers, addresses and sizes are torchrun's own: `world_size` = nnodes x nproc_per_node. `local_rank` is None
    where the launcher did not say. `agent_store` tells that torchrun's agent serves the store at the master's
    address (else rank 0 must), `restart` how often the agent has started the ranks again.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int | None = None
    local_world_size: int = 1
    node_rank: int = 0
    master_addr: str | None = None
    master_port: int | None = None
    under_torchrun: bool = False
    agent_store: bool = False
    restart: int = 0


@cache
def launch_env() -> LaunchEnv:
    """Read RANK, WORLD_SIZE, LOCAL_RANK, ... as torchrun (or Slurm wrapped by the user) sets them.

    Raises `UsageError` naming the variable when one is not a number or they contradict each other.
    """
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        return LaunchEnv()
    rank, world_size = _integer("RANK", 0), _integer("WORLD_SIZE", 1)
    if not 0 <= rank < world_size:
        raise UsageError(
            f"RANK={rank} is not below WORLD_SIZE={world_size}; start the program with torchrun, which sets both"
        )
    local_world_size = _integer("LOCAL_WORLD_SIZE", world_size)
    local_rank = _integer("LOCAL_RANK", 0) if os.environ.get("LOCAL_RANK") else None
    if not 0 <= (local_rank or 0) < local_world_size:
        raise UsageError(
            f"LOCAL_RANK={local_rank or 0} is not below LOCAL_WORLD_SIZE={local_world_size}; torchrun sets both"
        )
    return LaunchEnv(
        rank=rank,
        world_size=world_size,
        local_rank=local_rank,
        local_world_size=local_world_size,
        node_rank=_integer("GROUP_RANK", rank // local_world_size),
        master_addr=os.environ.get("MASTER_ADDR"),
        master_port=_integer("MASTER_PORT", 29500),
        under_torchrun="TORCHELASTIC_RUN_ID" in os.environ,
        agent_store=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        restart=_integer("TORCHELASTIC_RESTART_COUNT", 0),
    )


def requested_threads() -> int | None:
    """The user's own OMP_NUM_THREADS, or None.

    torchrun sets OMP_NUM_THREADS=1 for its children when the user did not set it. The parent's initial
    environment, which Linux keeps in /proc, tells the two apart.
    """
    value = os.environ.get("OMP_NUM_THREADS")
    if value is None:
        return None
    if launch_env().under_torchrun and value == "1" and not _parent_was_given("OMP_NUM_THREADS"):
        return None
    return _integer("OMP_NUM_THREADS", 1)


def torchrun_error_file() -> str | None:
    """Where torchrun reads why this process failed, for its closing report; None without torchrun."""
    return os.environ.get("TORCHELASTIC_ERROR_FILE") or None


def quiet_torch() -> None:
    """Keep torch's C++ warnings (a stack a line) off the screen, here if called before torch is imported, and in
    the processes started from here. Errors still show, and TORCH_CPP_LOG_LEVEL is the user's to set.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def colours_wanted() -> bool:
    """Whether nobody has asked for text without colours, by NO_COLOR (no-color.org) or a terminal that has none."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def choose_gloo_interface(name: str) -> None:
    """Let gloo listen on the network interface `name`, unless the user has chosen one in GLOO_SOCKET_IFNAME.

    gloo takes this choice from the environment only.
    """
    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def nccl_multi_rank_gpu() -> bool:
    """Whether the user lets several ranks use one GPU with NCCL, which reads this itself."""
    return os.environ.get("NCCL_MULTI_RANK_GPU_ENABLE") == "1"


def client_api_key() -> str | None:
    """The key that a server is asked with, MIXTRALKIT_API_KEY; None where it is not set, or empty."""
    return os.environ.get("MIXTRALKIT_API_KEY") or None


def server_api_keys() -> str | None:
    """The keys that a server accepts, MIXTRALKIT_API_KEYS, as they are written there; None where it is not set."""
    return os.environ.get("MIXTRALKIT_API_KEYS")


def fastermoe_variables() -> dict[str, str]:
    """The FMOE_* variables as they are set, by name; fastermoe_env.py says what they mean."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("FMOE_")}


def _parent_was_given(name: str) -> bool:
    try:
        initial = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return False
    return any(entry.startswith(f"{name}=".encode()) for entry in initial.split(b"\0"))


def _integer(name: str, default: int) -> int:
    value = os.environ.get(name)
    if value is None or value == "":
        return default
    try:
        return int(value)
    except ValueError as error:
        raise UsageError(f"the environment variable {name} is {value!r}; a whole number is needed") from error
