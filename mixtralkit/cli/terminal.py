"""Where the program's words go: responses and reports to the standard output, all else to the standard error."""

import logging
import os
import sys
from contextlib import suppress

from mixtralkit.env import colours_wanted
from mixtralkit.log import ROOT


def prepare() -> None:
    """Show the package's warnings, and let text through that the terminal's encoding has no letters for."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    logger = logging.getLogger(ROOT)
    if not logger.handlers:
        logger.addHandler(_Asides())
        logger.propagate = False


def say(text: str, *, end: str = "\n") -> None:
    """Write to the standard output, at once."""
    print(text, end=end, flush=True)


def shows_colours() -> bool:
    """Whether the standard output is a terminal, and colours are welcome there."""
    return sys.stdout.isatty() and colours_wanted()


def aside(text: str, *, end: str = "\n") -> None:
    """Write to the standard error: what is not the answer. Nothing depends on its being read."""
    with suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)


def complain(message: str) -> None:
    """Show an error as one line."""
    aside(f"mixtralkit: error: {escaped(message)}")


def escaped(message: str) -> str:
    """The message with control characters made visible; newlines end a line and its continuation is indented."""
    visible = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in message)
    return visible.replace("\n", "\n  ")


def give_up_output() -> None:
    """Nobody reads the standard output any more: send what is still in its buffer nowhere, without a complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_access_log() -> None:
    """Write the server's line for each request to the standard error, as it is."""
    logger = logging.getLogger(f"{ROOT}.serve.access_log")
    logger.addHandler(_Lines())
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Lines(logging.Handler):
    """Writes log messages and nothing else."""

    def emit(self, record: logging.LogRecord) -> None:
        aside(self.format(record))


class _Asides(logging.Handler):
    """Writes log messages as asides."""

    def emit(self, record: logging.LogRecord) -> None:
        aside(f"mixtralkit: {record.levelname.lower()}: {escaped(record.getMessage())}")
