"""Which operators of a piece of code read a number from the device on the host, which makes it wait."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Those of the first line read a number (in inference mode under their own names); the others have results whose shape
# depends on numbers.
_READS = (
    *("_local_scalar_dense", "item", "is_nonzero", "equal"),
    *("nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "unique_consecutive"),
)


class HostReads(TorchDispatchMode):
    """Collects the names of such operators in `found`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _READS or (name == "index" and any(_is_mask(index) for index in args[1])):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _is_mask(index: torch.Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)
