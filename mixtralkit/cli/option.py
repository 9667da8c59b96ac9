"""One option of a verb: a field of the verb's dataclass, with what the command line needs to know about it."""

from collections.abc import Callable
from dataclasses import MISSING, Field, field, fields
from typing import Any

from mixtralkit.cli.values import text

_KEY = "option"


class Option:
    """A field of an options dataclass, seen from the command line.

    `parse` makes a value of what was typed. A `repeatable` option may be given several times, and its value is the
    tuple of all. A `switch` may go without a value. `positional` options also take the words that belong to no option.
    """

    def __init__(self, field: "Field[Any]") -> None:
        facts = field.metadata[_KEY]
        self.name = field.name
        self.flag = "--" + field.name.replace("_", "-")
        self.default = field.default
        self.required = field.default is MISSING
        self.help: str = facts["help"]
        self.metavar: str = facts["metavar"]
        self.short: str | None = facts["short"]
        self.parse: Callable[[str], Any] = facts["parse"]
        self.repeatable: bool = facts["repeatable"]
        self.positional: bool = facts["positional"]
        self.switch: bool = facts["switch"]

    @property
    def flags(self) -> tuple[str, ...]:
        """How the option may be written."""
        return (self.short, self.flag) if self.short else (self.flag,)


def option(
    explanation: str,
    *,
    default: Any = MISSING,
    metavar: str = "TEXT",
    short: str | None = None,
    parse: Callable[[str], Any] = text,
    repeatable: bool = False,
    positional: bool = False,
    switch: bool = False,
) -> Any:
    """A field of an options dataclass; see `Option`. Without a `default` the option must be given.

    `explanation` is for the help, and `metavar` stands there for the value.
    """
    facts = {
        "help": explanation,
        "metavar": metavar,
        "short": short,
        "parse": parse,
        "repeatable": repeatable,
        "positional": positional,
        "switch": switch,
    }
    return field(default=default, metadata={_KEY: facts})


def options_of(options_class: type) -> tuple[Option, ...]:
    """The options that a dataclass defines, in its order."""
    return tuple(Option(item) for item in fields(options_class))
