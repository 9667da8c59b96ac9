"""Checks a command line against a verb's options, before anything is loaded.

fire runs a function first and complains about what it could not use afterwards, and reads "1.5" or "[1,2]" as Python.
So what reaches fire is made here: one `--name=value` for each option, all known, each once.
"""

import json
from collections.abc import Collection, Sequence
from typing import Any

from mixtralkit.cli.near_miss import near_miss
from mixtralkit.cli.option import Option, options_of
from mixtralkit.cli.values import SWITCHED
from mixtralkit.errors import UsageError

# Options of MixtralKit's own example, and what to do instead.
RETIRED = {
    "--num-gpus": "the number of ranks is torchrun's: torchrun --standalone --nproc_per_node=N ..., or --nproc N here",
}


def check_arguments(options: Sequence[Option], arguments: Sequence[str]) -> list[str]:
    """The same command line as `--name=value` words that fire cannot misread; a repeatable option's value is JSON.

    Raises `UsageError` for a word that is no option of the verb, with the near miss; for an option without its value,
    given twice, or missing.
    """
    given: dict[str, list[str]] = {}
    words = list(arguments)
    before = ""
    while words:
        word = words.pop(0)
        if word == "--":
            # All that follows is text, even if it begins with a dash.
            while words:
                _give(given, _positional(options, words[0]), words.pop(0))
        elif _is_option(word):
            _give(given, *_with_value(options, word, words))
        else:
            _give(given, _positional(options, word, before), word)
        before = word
    for option in options:
        if option.required and option.name not in given:
            raise UsageError(f"{' or '.join(option.flags)} {option.metavar} is missing: {option.help}")
    return [_word(option, given[option.name]) for option in options if option.name in given]


def _give(given: dict[str, list[str]], option: Option, value: str) -> None:
    values = given.setdefault(option.name, [])
    if values and not option.repeatable:
        raise UsageError(f"{option.flag} is given twice: {values[0]!r} and {value!r}; it takes one value")
    values.append(value)


def _with_value(options: Sequence[Option], word: str, following: list[str]) -> tuple[Option, str]:
    """The option that `word` names, and its value: what comes after "=", or else the next word, which is removed."""
    name, equals, value = word.partition("=")
    option = _find(options, name)
    if equals:
        return option, value
    if option.switch:
        return option, "true"
    if not following or _is_option(following[0]):
        raise UsageError(f"{name} needs a value ({option.metavar}); one that begins with a dash goes as {name}=VALUE")
    return option, following.pop(0)


def _is_option(word: str) -> bool:
    """Whether a word is meant as an option: dashes and then a letter. "-", "--" and "-5" are not."""
    name = word.lstrip("-")
    return word.startswith("-") and name[:1].isalpha()


def _find(options: Sequence[Option], name: str) -> Option:
    written = name.replace("_", "-")
    for option in options:
        if written in option.flags:
            return option
    if written in RETIRED:
        raise UsageError(f"there is no option {name}: {RETIRED[written]}")
    hint = near_miss(name, [option.flag for option in options])
    raise UsageError(f"there is no option {name}{hint}; --help lists them all")


def _positional(options: Sequence[Option], word: str, before: str = "") -> Option:
    """The option that takes words of no option, such as `word`, which came after the word `before`."""
    for option in options:
        if option.positional:
            return option
    written = before.replace("_", "-")
    after_switch = any(option.switch and written in option.flags for option in options)
    hint = f" (did you mean {before}={word}?)" if after_switch and word.lower() in SWITCHED else ""
    raise UsageError(f"{word!r} belongs to no option{hint}; --help lists them all")


def _word(option: Option, values: list[str]) -> str:
    return f"--{option.name}={json.dumps(values) if option.repeatable else values[0]}"


def words_of(options: Any, without: Collection[str] = ()) -> list[str]:
    """A command line that gives `options`, an options dataclass, again, but for the fields `without`."""
    words = []
    for option in options_of(type(options)):
        value = getattr(options, option.name)
        if option.name in without or value == option.default:
            continue
        words += [f"{option.flag}={item}" for item in (value if option.repeatable else (value,))]
    return words
