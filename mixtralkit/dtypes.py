"""The dtypes that weights can be computed in, by the names of `--dtype`."""

import torch

from mixtralkit.errors import UsageError

_NAMED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def weights_dtype(given: torch.dtype | str | None) -> torch.dtype | None:
    """The dtype `given`, also by its name; None, the checkpoint's own, for "auto".

    Raises `UsageError` for any other.
    """
    if given is None or given == "auto":
        return None
    for name, dtype in _NAMED.items():
        if given in (name, dtype):
            return dtype
    raise UsageError(f"dtype is {given!r}; {', '.join(_NAMED)} or auto is possible, or one of torch's of these names")
