"""Ctrl-C ends a response and not the program.

torchrun ends all ranks when it gets the SIGINT that a terminal sends on Ctrl-C, and it gets it with them. So while a
response is written, the terminal is told to hand Ctrl-C over as a character. Where no terminal is read, SIGINT it is.
"""

import os
import select
import signal
import sys
import termios
from types import FrameType

CTRL_C = b"\x03"
INTERRUPTED = 130  # the exit status of a program that Ctrl-C has ended


class Interrupt:
    """Watches for Ctrl-C for the time of a `with` block; call `requested` again and again.

    Only the rank that `reads` the terminal may change it.
    """

    def __init__(self, *, reads: bool) -> None:
        self._seen = False
        self._terminal = sys.stdin.fileno() if reads and sys.stdin.isatty() else None

    def __enter__(self) -> "Interrupt":
        self._handler = signal.signal(signal.SIGINT, self._note)
        if self._terminal is not None:
            self._mode = termios.tcgetattr(self._terminal)
            mode = termios.tcgetattr(self._terminal)
            mode[3] &= ~(termios.ISIG | termios.ICANON | termios.ECHO)
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal is not None:
            termios.tcsetattr(self._terminal, termios.TCSAFLUSH, self._mode)
        signal.signal(signal.SIGINT, self._handler)

    def requested(self) -> bool:
        """Whether Ctrl-C has come; what else was typed meanwhile is forgotten."""
        while not self._seen and self._terminal is not None and select.select([self._terminal], [], [], 0)[0]:
            typed = os.read(self._terminal, 1024)
            if not typed:
                break
            self._seen = CTRL_C in typed
        return self._seen

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._seen = True
