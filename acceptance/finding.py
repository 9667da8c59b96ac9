"""What a check says: whether it passed, and what was found. Nothing here needs a package."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

Subject = TypeVar("Subject")


class Wrong(Exception):
    """A check has found something else than it must."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    passed: bool
    found: str

    def as_json(self) -> str:
        """A line for `read_findings`."""
        return json.dumps(asdict(self))


def expect(condition: object, message: str) -> None:
    """Raise `Wrong` with the message unless the condition holds."""
    if not condition:
        raise Wrong(message)


def checked(checks: Mapping[str, Callable[[Subject], str]], subject: Subject) -> Iterator[Finding]:
    """A finding for each check, which returns what it found, or raises."""
    for what, check in checks.items():
        try:
            yield Finding(what, True, check(subject))
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what was found
            yield Finding(what, False, f"{type(error).__name__}: {error}")


def read_findings(lines: Sequence[str]) -> list[Finding]:
    """Those among the lines that a program in another environment has printed."""
    return [Finding(**json.loads(line)) for line in lines if line.startswith('{"what"')]
