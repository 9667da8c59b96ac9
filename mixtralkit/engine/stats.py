"""How long generation took."""

from dataclasses import dataclass, field


@dataclass
class Phase:
    """The steps of one kind: the tokens they fed to the model, over all ranks, and this rank's seconds."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass
class GenerationStats:
    """Prefill and decode never share a step. A response's first token comes with its prefill."""

    prefill: Phase = field(default_factory=Phase)
    decode: Phase = field(default_factory=Phase)
    seconds_to_first_token: float | None = None

    def record(self, *, prefill: bool, tokens: int, seconds: float) -> None:
        """Add one step."""
        if self.seconds_to_first_token is None:
            self.seconds_to_first_token = seconds
        phase = self.prefill if prefill else self.decode
        phase.steps += 1
        phase.tokens += tokens
        phase.seconds += seconds
