"""Runs Mixtral checkpoints with their experts spread over ranks.

What is listed here is for notebooks and scripts; the command line is cli/. Names are looked up when first used, so
that importing the package is cheap and does nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixtralkit.api import generate, load
    from mixtralkit.engine.request import Completion, Grammar, SamplingParams
    from mixtralkit.errors import RankFailure, RequestError, UsageError
    from mixtralkit.llm import LLM

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "Completion",
    "Grammar",
    "RankFailure",
    "RequestError",
    "SamplingParams",
    "UsageError",
    "__version__",
    "generate",
    "load",
]

_HOMES = {
    "LLM": "mixtralkit.llm",
    "Completion": "mixtralkit.engine.request",
    "Grammar": "mixtralkit.engine.request",
    "RankFailure": "mixtralkit.errors",
    "RequestError": "mixtralkit.errors",
    "SamplingParams": "mixtralkit.engine.request",
    "UsageError": "mixtralkit.errors",
    "generate": "mixtralkit.api",
    "load": "mixtralkit.api",
}


def __dir__() -> list[str]:
    """What the package offers, for completion in a notebook."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import a name's module at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
