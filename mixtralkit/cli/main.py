"""The program: finds the verb, checks its options, runs it, and turns errors into one line and an exit status."""

import functools
import gc
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire

from mixtralkit import __version__
from mixtralkit.cli.arguments import check_arguments
from mixtralkit.cli.help_text import program_help, verb_help
from mixtralkit.cli.interrupt import INTERRUPTED
from mixtralkit.cli.near_miss import near_miss
from mixtralkit.cli.option import Option, options_of
from mixtralkit.cli.terminal import complain, give_up_output, prepare, say
from mixtralkit.cli.verbs import VERBS, Verb
from mixtralkit.env import launch_env, quiet_torch
from mixtralkit.errors import MixtralKitError, UsageError

PROGRAM = "mixtralkit"
HELP = ("-h", "--help")
BROKEN_PIPE = 141
# Between two looks of Python for garbage. Its own 700 let it go through torch's 165,000 objects again and again, which
# is 0.1 s each time; hardly any garbage here is cyclic.
OBJECTS_A_COLLECTION = 100_000


def main(arguments: Sequence[str] | None = None, *, verb: str | None = None) -> int:
    """Run the command line; returns the exit status.

    `arguments` are by default those of this process. `verb` is set where the program has a single one, as tools/ have.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    quiet_torch()
    prepare()
    gc.set_threshold(OBJECTS_A_COLLECTION)
    try:
        status = _run_program(words) if verb is None else _run_verb(verb, words, Path(sys.argv[0]).name)
        sys.stdout.flush()
    except MixtralKitError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        give_up_output()
        return BROKEN_PIPE
    return status


def _fail(error: MixtralKitError) -> int:
    """Show an error that came before the ranks had met; only one of torchrun's ranks on a node does so."""
    if not _under_torchrun():
        complain(str(error))
        return error.exit_status
    from mixtralkit.dist.run_rank import fail_before_group

    return fail_before_group(error, complain)


def _under_torchrun() -> bool:
    try:
        return launch_env().under_torchrun
    except UsageError:  # the variables of another launcher, or what is left of them; that is the error to show
        return False


def _run_program(words: Sequence[str]) -> int:
    first, *rest = words or HELP
    if first in HELP or words == ["help"]:
        _inform(program_help(PROGRAM))
    elif first == "--version":
        _inform(f"{PROGRAM} {__version__}")
    elif first == "help":
        name, _ = _verb_of(rest)
        return _run_verb(name, HELP, f"{PROGRAM} {name}")
    else:
        name, options = _verb_of(words)
        return _run_verb(name, options, f"{PROGRAM} {name}")
    return 0


def _verb_of(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The verb that `words` begin with and the words after it; a second word belongs to it where verbs have two."""
    first, *rest = words
    if rest and not rest[0].startswith("-") and any(verb.name.startswith(f"{first} ") for verb in VERBS):
        return f"{first} {rest[0]}", rest[1:]
    return first, rest


def _run_verb(name: str, words: Sequence[str], usage: str) -> int:
    """Check all the words, then have fire make the options of them and call the verb."""
    verb = _find(name)
    if any(word in HELP for word in itertools.takewhile(lambda word: word != "--", words)):
        _inform(verb_help(usage, verb))
        return 0
    options = options_of(verb.options)
    checked = check_arguments(options, words)

    def call(**values: Any) -> int:
        return verb.run(verb.options(**values))

    parsers = {option.name: functools.partial(_parse, option) for option in options}
    component = {verb.name: fire.decorators.SetParseFns(**parsers)(call)}
    return int(fire.Fire(component, command=[verb.name, *checked], name=PROGRAM, serialize=lambda status: None))


def _inform(text: str) -> None:
    """Write to the standard output, on one rank of a node."""
    if not launch_env().local_rank:
        say(text)


def _find(name: str) -> Verb:
    for verb in VERBS:
        if verb.name == name:
            return verb
    names = [verb.name for verb in VERBS]
    raise UsageError(f"there is no verb {name!r}{near_miss(name, names)}; the verbs are {', '.join(names)}")


def _parse(option: Option, typed: str) -> Any:
    """The value of an option, from what check_arguments made of it."""
    try:
        return tuple(map(option.parse, json.loads(typed))) if option.repeatable else option.parse(typed)
    except ValueError as error:
        raise UsageError(f"{option.flag} is {typed!r}; {error}") from error


if __name__ == "__main__":
    sys.exit(main())
