"""Says what became of FasterMoE's environment variables."""

from mixtralkit.env import fastermoe_variables
from mixtralkit.log import get_logger, notice

_logger = get_logger(__name__)


def warn_of_fastermoe() -> None:
    """Name, once and on rank 0, the FMOE_* variables that are set: none of them has an effect yet."""
    names = fastermoe_variables()
    if names:
        plural = "has" if len(names) == 1 else "have"
        notice(_logger, f"{', '.join(names)} {plural} no effect in this version: it has no FasterMoE strategies yet")
