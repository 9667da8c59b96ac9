"""What ranks tell each other before rows move: their counts, and what they believe a row is.

gloo aborts the process when two ranks expect different sizes; here they find out in time and say so.
"""

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.errors import RankFailure

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def gather_counts(collectives: Collectives, counts_C: torch.Tensor, x_TD: torch.Tensor) -> torch.Tensor:
    """Every rank's `counts_C` (int64), stacked `[W, C]` on the host.

    The width and dtype of `x_TD` and the number of counts travel along; raises `RankFailure` on every rank, naming
    those that differ from rank 0, when they are not the same everywhere.
    """
    return agreed_counts(collectives.all_gather(counts_message(counts_C, x_TD)).cpu())


def counts_message(counts_C: torch.Tensor, x_TD: torch.Tensor) -> torch.Tensor:
    """What a rank tells the others: what its rows are, and its counts (int64)."""
    beliefs = [x_TD.shape[1], _DTYPES.index(x_TD.dtype)]
    return torch.cat((torch.tensor(beliefs, device=counts_C.device), counts_C))


def agreed_counts(gathered: torch.Tensor) -> torch.Tensor:
    """The counts in all ranks' messages, `[W, C]`, which are on the host. Raises `RankFailure` as `gather_counts`."""
    for rank, (width, dtype) in enumerate(gathered[:, :2].tolist()):
        if [width, dtype] != gathered[0, :2].tolist():
            theirs, ours = _describe(width, dtype), _describe(*gathered[0, :2].tolist())
            raise RankFailure(
                f"rank {rank} sends rows of {theirs}, rank 0 rows of {ours}; the ranks run different models"
            )
    return gathered[:, 2:]


def _describe(width: int, dtype: int) -> str:
    return f"{width} x {_DTYPES[dtype]}"
