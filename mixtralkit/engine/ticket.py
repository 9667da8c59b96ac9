"""A request from its submission to its end, as rank 0's front desk knows it, and what it has been told."""

import time
from dataclasses import dataclass, field

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.engine.output import OnOutput, Output
from mixtralkit.engine.request import Request
from mixtralkit.engine.response import Response
from mixtralkit.engine.step_plan import WorkResult


@dataclass
class Ticket:
    """A request that has not ended; `rank` is None until it runs, and `cached` how much of its prompt it was spared."""

    request: Request
    response: Response
    on_output: OnOutput
    rank: int | None = None
    cached: int = 0
    scored: int = 0  # prompt tokens whose log probabilities have been told
    arrived: float = field(default_factory=time.monotonic)

    def output(self, number: int, text: str) -> Output:
        """What to tell of request `number` now that there is more `text`."""
        return Output(
            number=number,
            text=text,
            finish_reason=self.response.finish_reason,
            prompt_tokens=len(self.request.prompt_tokens),
            cached_tokens=self.cached,
            rank=self.rank,
        )

    def new_scores(self, result: WorkResult) -> tuple[TokenLogprobs, ...]:
        """The prompt's log probabilities that have not been told: a request that was preempted feeds it again."""
        end = min(result.fed, len(self.request.prompt_tokens) - 1)
        begin = end - len(result.prompt_logprobs)
        scores = result.prompt_logprobs[max(0, self.scored - begin) :]
        self.scored = max(self.scored, end)
        return scores
