"""What a session is opened with: the command line, the server and the Python API each make one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.moe.strategies import Strategies
from mixtralkit.ops.quantized_weight import QuantKind

OnProgress = Callable[[int, int], None]  # bytes that are loaded, of how many


@dataclass(frozen=True)
class SessionSettings:
    """The same on all ranks, but for the folders, which each node may have elsewhere.

    `tokenizer` None is the one in the checkpoint's folder, `dtype` None the checkpoint's own, `quantize` None no
    quantization beyond the checkpoint's. `moe_backend` is whose layers compute the mixture, "mixtralkit" or "fastmoe"
    (moe/fastmoe_backend.py). `explain` measures what alternatives of the strategies would take and
    `keep_spans` keeps what happened when, for a trace.
    """

    model_weights: Path
    tokenizer: Path | None = None
    dtype: torch.dtype | None = None
    quantize: QuantKind | None = None
    dispatch: str = "auto"
    moe_backend: str = "mixtralkit"
    strategies: Strategies = field(default_factory=Strategies)
    limits: EngineLimits = field(default_factory=EngineLimits)
    explain: bool = False
    keep_spans: bool = False
