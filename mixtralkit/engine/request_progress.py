"""How far a request has come, as the one who plans knows it. Pure."""

from dataclasses import dataclass, field

from mixtralkit.engine.kv_blocks import extend_hashes
from mixtralkit.engine.request import SamplingParams
from mixtralkit.engine.step_plan import Admission


@dataclass(eq=False, slots=True)
class RequestProgress:
    """One request from its arrival to its end.

    `order` decides who comes first: priority, then arrival. `limit` is how many tokens prompt and response may have
    together; the last one is never fed. With `whole_prompt` the prompt is fed from its first token, without sharing.

    `tokens` are those known: the prompt and what has been taken in of the response. Plans are made while the results
    of others are in flight: in `untaken` plans the request has work, in `sampling` of them it gets one token at least,
    and up to `guesses` more altogether.
    """

    number: int
    prompt_tokens: tuple[int, ...]
    params: SamplingParams
    order: tuple[int, int]
    limit: int
    whole_prompt: bool
    tokens: list[int]
    hashes: list[bytes] = field(default_factory=list)  # of the full blocks of `tokens`; none where nothing is shared
    cached: int = 0  # tokens that were in the cache already when it was admitted first
    restarted: bool = False  # it has had a place, and lost it
    untaken: int = 0
    sampling: int = 0
    guesses: int = 0
    # Where it runs; nowhere while it waits and when it has ended.
    rank: int | None = None
    table: list[int] = field(default_factory=list)
    fed: int = 0  # tokens in the cache after all plans so far, until the response begins
    responding: bool = False  # the last known token has been fed, or will be in an untaken plan
    registered: int = 0  # full blocks that have been registered, or cannot be

    @property
    def may_share(self) -> bool:
        """Whether to look for its tokens in the cache; once there is a response, the whole prompt has been fed."""
        return not self.whole_prompt or len(self.tokens) > len(self.prompt_tokens)

    @property
    def least_known(self) -> int:
        """The least number of tokens that it has when the untaken plans are done."""
        return len(self.tokens) + self.sampling

    def admission(self, rank: int) -> Admission:
        """What the rank that it is admitted to is told."""
        outputs = tuple(self.tokens[len(self.prompt_tokens) :])
        return Admission(self.number, rank, self.prompt_tokens, outputs, self.params)

    def leave(self) -> None:
        """It runs nowhere any longer; what it has given so far stays."""
        self.rank, self.table, self.fed, self.responding, self.registered = None, [], 0, False, 0

    def extend(self, tokens: tuple[int, ...], block_size: int, *, hashed: bool) -> None:
        """Add tokens of the response."""
        self.tokens.extend(tokens)
        if hashed and len(self.tokens) >= (len(self.hashes) + 1) * block_size:
            extend_hashes(self.hashes, self.tokens, block_size)
