"""A part of what is measured, in a process of its own: one that fails or takes too long leaves the others."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LAST_LINES = 5


@dataclass(frozen=True)
class Section:
    """`python -m MODULE WORDS`, which prints what `tell` prints within `limit` seconds.

    It needs `memory` bytes of the GPU; those of a quick run are `quick`.
    """

    title: str
    module: str
    words: tuple[str, ...] = ()
    limit: float = 60.0
    memory: float = 0.0
    quick: bool = False


@dataclass(frozen=True)
class Told:
    """What came of a section: a table or the like in Markdown, and the same as JSON. `failed` where it went wrong."""

    markdown: str
    document: Any = None
    failed: bool = False


def tell(markdown: str, document: Any) -> None:
    """Print what `run` reads, as the last line."""
    print(json.dumps({"markdown": markdown, "document": document}), flush=True)


def run(section: Section) -> Told:
    """Run a section; what it says on its standard error is the user's to see. With no time left it is not begun."""
    if section.limit <= 0:
        return Told("Not measured: the time was over.\n")
    command = [sys.executable, "-m", section.module, *section.words]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=section.limit, check=False)
    except subprocess.TimeoutExpired:
        return Told(f"Took longer than {section.limit:.0f} s.\n", failed=True)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = "\n".join(lines[-_LAST_LINES:])
        return Told(f"Failed with status {done.returncode}.\n{said}\n", failed=True)
    told = json.loads(lines[-1])
    return Told(told["markdown"], told["document"])


def page(name: str, date: str, command: str, parts: Sequence[tuple[Section, Told]]) -> str:
    """All figures, in Markdown."""
    head = f"# {name}, {date}\n\n`{command}`. Random weights.\n"
    return "\n".join([head, *(f"## {section.title}\n\n{told.markdown}" for section, told in parts)])
