"""What is known of an HTTP request beside its body: when it came, what it is called, and what it has cost so far."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import Scope

_KEY = "mixtralkit.facts"


@dataclass
class RequestFacts:
    """`arrived` is of time.perf_counter(); the counts of tokens grow while the request is answered."""

    arrived: float = field(default_factory=time.perf_counter)
    name: str = field(default_factory=lambda: secrets.token_hex(12))
    prompt_tokens: int = 0
    output_tokens: int = 0
    _at_end: list[Callable[[], None]] = field(default_factory=list)

    def at_end(self, function: Callable[[], None]) -> None:
        """Have `function` called when the request has been answered to the last byte, or nobody wants the rest."""
        self._at_end.append(function)

    def end(self) -> None:
        """That is now. The functions are let go: what they know of knows these facts, too."""
        while self._at_end:
            self._at_end.pop(0)()

    @property
    def seconds(self) -> float:
        """How long ago the request came."""
        return time.perf_counter() - self.arrived


def attach_facts(scope: Scope) -> RequestFacts:
    """Begin the facts of a request that has just come."""
    scope[_KEY] = facts = RequestFacts()
    return facts


def facts_of(scope: Scope) -> RequestFacts:
    """The facts that `attach_facts` began."""
    facts: RequestFacts = scope[_KEY]
    return facts
