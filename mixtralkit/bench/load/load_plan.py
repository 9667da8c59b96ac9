"""What a load test sends and when, as the user chose it."""

import random
from dataclasses import dataclass
from enum import Enum


class Endpoint(str, Enum):
    """Which of OpenAI's routes the requests go to; the value is how the user writes it."""

    COMPLETIONS = "completions"
    CHAT = "chat"

    @property
    def path(self) -> str:
        """The route."""
        return "/v1/completions" if self is Endpoint.COMPLETIONS else "/v1/chat/completions"


@dataclass(frozen=True)
class Span:
    """A number of tokens from `least` to `most`, both included; each is as likely as the others."""

    least: int
    most: int

    def draw(self, random_numbers: random.Random) -> int:
        """One of them."""
        return random_numbers.randint(self.least, self.most)

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}-{self.most}"


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """`requests` of these lengths in tokens. They arrive at random with a mean `rate` a second, or else `concurrency`
    of them are under way at any time: exactly one of the two is set.

    `shared_prefix` tokens, the same in all requests, go before each one's own. `warm_up` requests are sent before and
    do not count. `deadline` is how many seconds the run may take. Equal seeds give equal requests and arrivals.
    """

    endpoint: Endpoint
    requests: int
    input_tokens: Span
    output_tokens: Span
    shared_prefix: int
    warm_up: int
    rate: float | None
    concurrency: int | None
    seed: int
    deadline: float | None

    @property
    def longest(self) -> int:
        """The most tokens that a request can have, its answer included."""
        return self.shared_prefix + self.input_tokens.most + self.output_tokens.most
