"""What ranks tell each other so that they stay in step: the requests once, and after every step its tokens."""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.engine.scheduler import Step


def share_requests(control: Collectives, requests: Sequence[Request]) -> list[Request]:
    """Rank 0's requests, on every rank; what the others pass is not looked at."""
    if control.size == 1:
        return list(requests)
    told = control.broadcast_json([[request.prompt_tokens, asdict(request.params)] for request in requests])
    return [
        Request(tuple(tokens), SamplingParams(**{**params, "stop": tuple(params["stop"])})) for tokens, params in told
    ]


def share_tokens(control: Collectives, step: Step, mine: Sequence[int]) -> dict[int, int]:
    """The token that each request of `step` got, by request; `mine` are those of this rank's requests, in order."""
    padded = torch.zeros(step.longest, dtype=torch.int64, device=control.device)
    padded[: len(mine)] = torch.tensor(mine, dtype=torch.int64)
    tokens = control.all_gather(padded).tolist()
    return {request: tokens[rank][i] for rank, work in enumerate(step.work) for i, request in enumerate(work)}
