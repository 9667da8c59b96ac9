"""FasterMoE's environment variables, FMOE_FASTER_* and FMOE_TOPO_*, read once and checked.

Names and meanings are those of https://github.com/laekov/fastmoe/blob/master/doc/fastermoe/README.md. An empty variable
is one that is not set. Flags of the command line mean the same and go before; docs/strategies.md has them side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from mixtralkit.env import fastermoe_variables
from mixtralkit.errors import UsageError
from mixtralkit.quantities import above_zero, bandwidth, compute_rate, finite, fraction

SCHEDULE_ENABLE = "FMOE_FASTER_SCHEDULE_ENABLE"
GROUP_SIZE = "FMOE_FASTER_GROUP_SIZE"
SHADOW_ENABLE = "FMOE_FASTER_SHADOW_ENABLE"
NETBW = "FMOE_FASTER_GLBPLC_NETBW"
GPUTP = "FMOE_FASTER_GLBPLC_GPUTP"
ALPHA = "FMOE_FASTER_GLBPLC_ALPHA"
DMODEL = "FMOE_FASTER_GLBPLC_DMODEL"
GPUS_PER_NODE = "FMOE_TOPO_GPUS_PER_NODE"
OUTGOING_FRACTION = "FMOE_TOPO_OUTGOING_FRACTION"
KNOWN = (SCHEDULE_ENABLE, GROUP_SIZE, SHADOW_ENABLE, NETBW, GPUTP, ALPHA, DMODEL, GPUS_PER_NODE, OUTGOING_FRACTION)

T = TypeVar("T")
_SWITCH = {"1": True, "on": True, "true": True, "yes": True, "0": False, "off": False, "false": False, "no": False}


@dataclass(frozen=True)
class FasterMoeEnv:
    """What the variables say; None where one is not set. `unknown` are the FMOE_* variables that mean nothing here.

    `net_bandwidth` is in bytes a second, `compute_rate` in FLOP a second, `group_size` in ranks.
    """

    schedule_enable: bool | None = None
    group_size: int | Literal["auto"] | None = None
    shadow_enable: bool | None = None
    net_bandwidth: float | None = None
    compute_rate: float | None = None
    alpha: float | None = None
    d_model: int | None = None
    gpus_per_node: int | None = None
    outgoing_fraction: float | None = None
    unknown: tuple[str, ...] = ()


@cache
def fastermoe_env() -> FasterMoeEnv:
    """Read the variables. Raises `UsageError` naming the one that has a bad value, the value, and what is allowed."""
    raw = {name: value.strip() for name, value in fastermoe_variables().items() if value.strip()}
    return FasterMoeEnv(
        schedule_enable=_read(raw, SCHEDULE_ENABLE, _switch),
        group_size=_read(raw, GROUP_SIZE, _group_size),
        shadow_enable=_read(raw, SHADOW_ENABLE, _switch),
        net_bandwidth=_read(raw, NETBW, bandwidth),
        compute_rate=_read(raw, GPUTP, compute_rate),
        alpha=_read(raw, ALPHA, above_zero),
        d_model=_read(raw, DMODEL, _whole),
        gpus_per_node=_read(raw, GPUS_PER_NODE, _whole),
        outgoing_fraction=_read(raw, OUTGOING_FRACTION, fraction),
        unknown=tuple(name for name in raw if name not in KNOWN),
    )


def _read(raw: Mapping[str, str], name: str, parse: Callable[[str], T]) -> T | None:
    if name not in raw:
        return None
    try:
        return parse(raw[name])
    except ValueError as error:
        raise UsageError(f"the environment variable {name} is {raw[name]!r}; {error}") from error


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError("1, ON, true or yes switches it on, and 0, OFF, false or no off")
    return _SWITCH[text.lower()]


def _group_size(text: str) -> int | Literal["auto"]:
    if text.lower() == "auto":
        return "auto"
    try:
        return _whole(text)
    except ValueError:
        raise ValueError("a whole number of ranks of at least 1, or auto, is needed") from None


def _whole(text: str) -> int:
    """A whole number; 2048.0 is one too, as FasterMoE reads floats."""
    value = finite(text)
    if not (value >= 1 and value.is_integer()):
        raise ValueError("a whole number of at least 1 is needed")
    return int(value)
