"""How much an engine takes on."""

from dataclasses import dataclass

from mixtralkit.errors import UsageError
from mixtralkit.model.kv_cache import BLOCK_SIZE, CHUNK

STEP_TOKENS = 512


@dataclass(frozen=True)
class EngineLimits:
    """The same on all ranks.

    A rank works on `batch_size` requests at a time, and in a step feeds at most `step_tokens` tokens: one of each
    request, and of prompts what still fits (a batch of requests past their prompts may be more). `kv_tokens` is for how
    many tokens it has room, of its requests and of what is kept to be shared, None for as many as the requests that run
    can ever be; `block_size` tokens share a block. Beyond the requests that run, `max_waiting` may wait (None: any
    number). With `reuse_prefixes` prompts that begin alike share what was computed, and up to `drafts` tokens a step
    are guessed from the prompt. No request has more than `context` tokens (None: as many as the model takes).
    Raises `UsageError` for a value out of range.
    """

    batch_size: int = 8
    step_tokens: int = STEP_TOKENS
    kv_tokens: int | None = None
    block_size: int = BLOCK_SIZE
    max_waiting: int | None = None
    reuse_prefixes: bool = True
    drafts: int = 0
    context: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("step_tokens", 1), ("block_size", 1), ("drafts", 0)):
            value = getattr(self, name)
            if value < least:
                raise UsageError(f"the engine's {name} is {value}; it must be at least {least}")
        if self.step_tokens < self.batch_size:
            raise UsageError(
                f"the engine's step_tokens is {self.step_tokens}; each of the {self.batch_size} requests of batch_size "
                "needs one"
            )
        if CHUNK % self.block_size and self.block_size % CHUNK:
            raise UsageError(
                f"the engine's block_size is {self.block_size}; a divisor or multiple of {CHUNK} is needed"
            )
        optional = (
            ("kv_tokens", self.kv_tokens, 2),
            ("max_waiting", self.max_waiting, 0),
            ("context", self.context, 2),
        )
        for name, value, least in optional:
            if value is not None and value < least:
                raise UsageError(f"the engine's {name} is {value}; it must be at least {least}")

    def num_blocks(self, context: int) -> int:
        """The blocks of a rank, for a model of this context."""
        if self.kv_tokens is None:
            return self.batch_size * -(-context // self.block_size)
        return max(1, self.kv_tokens // self.block_size)

    def most_context(self, context: int) -> int:
        """The most tokens of a request, for a model of this context."""
        room = self.num_blocks(context) * self.block_size
        return min(context, room, self.context or context)
