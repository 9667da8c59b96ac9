"""How long generation took."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mixtralkit.engine.step_plan import WorkResult


@dataclass
class Phase:
    """The steps of one kind, some of them `recorded` as CUDA graphs: the tokens that each rank fed to the model in
    them, and this rank's seconds.
    """

    steps: int = 0
    recorded: int = 0
    tokens_W: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Of all ranks."""
        return sum(self.tokens_W)


@dataclass
class GenerationStats:
    """`prefill` has the steps that feed prompts, to which requests past theirs may add a token each; `decode` the rest.

    A response's first token comes with the last of its prompt; `decoded` are those that this rank's requests got in
    decode steps. Of their `proposed` drafts `accepted` were right.
    """

    prefill: Phase = field(default_factory=Phase)
    decode: Phase = field(default_factory=Phase)
    seconds_to_first_token: float | None = None
    decoded: int = 0
    proposed: int = 0
    accepted: int = 0

    def record(
        self,
        phase: Phase,
        *,
        tokens_W: Sequence[int],
        seconds: float,
        results: Sequence[WorkResult],
        recorded: bool = False,
    ) -> None:
        """Add one step to `phase`, to which rank w fed up to `tokens_W[w]` tokens; `results` are this rank's."""
        phase.steps += 1
        phase.recorded += recorded
        phase.tokens_W = tuple(map(sum, zip(phase.tokens_W or [0] * len(tokens_W), tokens_W, strict=True)))
        phase.seconds += seconds
        self.decoded += sum(len(result.tokens) for result in results) if phase is self.decode else 0
        self.proposed += sum(result.proposed for result in results)
        self.accepted += sum(result.accepted for result in results)
        if self.seconds_to_first_token is None and any(result.tokens for result in results):
            self.seconds_to_first_token = self.prefill.seconds + self.decode.seconds
