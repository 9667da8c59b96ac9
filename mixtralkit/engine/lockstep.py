"""What ranks tell each other so that they stay in step: the requests once, and after every step its tokens."""

from collections.abc import Sequence

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.engine.scheduler import Step


def share_requests(control: Collectives, requests: Sequence[Request]) -> list[Request]:
    """Rank 0's requests, on every rank; what the others pass is not looked at."""
    if control.size == 1:
        return list(requests)
    told = control.broadcast_json([[request.prompt_tokens, request.params.to_json()] for request in requests])
    return [Request(tuple(tokens), SamplingParams.from_json(params)) for tokens, params in told]


def share_tokens(
    control: Collectives, step: Step, mine: Sequence[int], *, interrupted: bool
) -> tuple[dict[int, int], bool]:
    """The token that each request of `step` got, by request, and whether rank 0 is `interrupted`.

    `mine` are the tokens of this rank's requests, in order.
    """
    cells = torch.zeros(1 + step.longest, dtype=torch.int64, device=control.device)
    cells[0] = interrupted
    cells[1 : 1 + len(mine)] = torch.tensor(mine, dtype=torch.int64)
    told = control.all_gather(cells).tolist()
    tokens = {request: told[rank][1 + i] for rank, work in enumerate(step.work) for i, request in enumerate(work)}
    return tokens, bool(told[0][0])
