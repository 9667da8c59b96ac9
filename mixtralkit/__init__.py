"""Runs Mixtral checkpoints with their experts spread over ranks.

`load` and `generate` (api.py) are for notebooks and scripts; the command line is cli/. They are looked up when
first used, so that importing the package is cheap and does nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixtralkit.api import generate, load

__version__ = "0.1.0"
__all__ = ["__version__", "generate", "load"]


def __dir__() -> list[str]:
    """What the package offers, for completion in a notebook."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import api.py at the first use of one of its names (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mixtralkit import api

    return getattr(api, name)
