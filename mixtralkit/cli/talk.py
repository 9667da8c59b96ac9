"""A person's side of a conversation: lines, commands, and what was said so far."""

import re
import sys
from contextlib import suppress

from mixtralkit.chat_template import Message
from mixtralkit.cli.terminal import complain, say

COMMANDS = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C ends a response"
_COMMAND = re.compile(r"/[a-z]+")


class Talk:
    """`messages` are what was said so far, after the `system` text if there is one."""

    def __init__(self, system: str) -> None:
        self._beginning = [Message("system", system)] if system else []
        self.messages = list(self._beginning)

    def listen(self) -> bool:
        """Read lines until one can be answered: it is the last message then. False at the end of the conversation."""
        while (line := _read_line()) is not None and line.strip() != "/exit":
            if line.strip() == "/reset":
                self.messages = list(self._beginning)
            elif _COMMAND.fullmatch(line.strip()):
                complain(f"there is no command {line.strip()}; {COMMANDS}")
            elif line.strip() and self.accepts([*self.messages, Message("user", line)]):
                self.messages.append(Message("user", line))
                return True
        return False

    def accepts(self, messages: list[Message]) -> bool:
        """Whether these can be answered; complains if not, and the conversation stays as it was."""
        return True


def _read_line() -> str | None:
    """The next line that the user types; None at the end of the input."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.removesuffix("\n") if line else None
    with suppress(ImportError):
        import readline  # noqa: F401 - once imported, input() has a history and keys to edit with
    try:
        return input("> ")
    except EOFError:
        say("")
        return None
