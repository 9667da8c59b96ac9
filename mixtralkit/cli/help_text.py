"""The help of the program and of each verb, made from their options."""

import textwrap
from collections.abc import Iterable, Sequence

from mixtralkit.cli.option import Option, options_of
from mixtralkit.cli.verbs import VERBS, Verb

WIDTH = 100
COLUMN = 30


def program_help(program: str) -> str:
    """What `--help` without a verb says."""
    lines = [f"  {verb.name:<{COLUMN - 4}}  {verb.summary}" for verb in VERBS]
    return "\n".join(
        [
            f"usage: {program} VERB [options]",
            "",
            "Runs Mixtral checkpoints with their experts spread over ranks.",
            "",
            *lines,
            "",
            f"{program} VERB --help tells the options of a verb; {program} --version the version.",
            "Ranks are started by torchrun, or by --nproc N:",
            "  torchrun --standalone --nproc_per_node=4 tools/example.py -m DIR -t FILE",
            f"  {program} generate --nproc 4 -m DIR 'To be, or not to be'",
        ]
    )


def verb_help(usage: str, verb: Verb) -> str:
    """What `--help` after a verb says; `usage` is how the program was called, with the verb."""
    options = options_of(verb.options)
    needed = [f"{item.flags[0]} {item.metavar}" for item in options if item.required and not item.positional]
    words = [f"{item.metavar}" if item.required else f"[{item.metavar} ...]" for item in options if item.positional]
    parts = [f"usage: {' '.join([usage, *needed, '[options]', *words])}", "", textwrap.fill(verb.description, WIDTH)]
    for title, section in _sections(verb.options):
        parts += ["", f"{title}:", *(_line(item) for item in section)]
    return "\n".join([*parts, "", "other:", _entry("-h, --help", "show this")])


def _sections(options_class: type) -> Iterable[tuple[str, Sequence[Option]]]:
    """The dataclass's own options first, then those of its bases."""
    bases = [base for base in options_class.__bases__ if base is not object]
    inherited = {item.name for base in bases for item in options_of(base)}
    own = [item for item in options_of(options_class) if item.name not in inherited]
    if own:
        yield _title(options_class), own
    for base in bases:
        yield _title(base), options_of(base)


def _title(options_class: type) -> str:
    return (options_class.__doc__ or "").partition("\n")[0].rstrip(".")


def _line(item: Option) -> str:
    unsaid = item.required or item.switch or item.default in (None, "", ())
    default = "" if unsaid else f" (default: {_plain(item.default)})"
    return _entry(f"{', '.join(item.flags)} {item.metavar}".rstrip(), item.help + default)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _entry(flags: str, text: str) -> str:
    lines = textwrap.wrap(text, WIDTH - COLUMN)
    head = f"  {flags}"
    first = f"{head:<{COLUMN}}{lines[0]}" if len(head) < COLUMN - 1 else f"{head}\n{'':<{COLUMN}}{lines[0]}"
    return "\n".join([first, *(f"{'':<{COLUMN}}{line}" for line in lines[1:])])
