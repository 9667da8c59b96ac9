"""A client of `PUT /api`, as Megatron's text_generation_cli.py is one: asks for prompts, shows what comes of them."""

import sys
from collections.abc import Sequence

from mixtralkit.cli.http_calls import ServerError, call
from mixtralkit.cli.interrupt import INTERRUPTED
from mixtralkit.cli.terminal import aside, complain, prepare, say
from mixtralkit.env import client_api_key

TIMEOUT = 600.0
USAGE = "usage: python tools/text_generation_cli.py HOST:PORT"


def main(arguments: Sequence[str]) -> int:
    """Ask until the input ends; returns the exit status: 0 when every prompt was answered."""
    prepare()
    if len(arguments) != 1 or arguments[0].startswith("-"):
        aside(USAGE)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    url = f"http://{arguments[0].removeprefix('http://').rstrip('/')}/api"
    try:
        return int(not _all_answered(url))
    except KeyboardInterrupt:
        return INTERRUPTED


def _all_answered(url: str) -> bool:
    """Ask for prompts until the input ends, or Ctrl-C; whether each was answered. One that was not ends nothing."""
    answered = True
    while (prompt := _asked("Enter prompt: ")) is not None:
        tokens = _asked("Enter number of tokens to generate: ")
        if tokens is None:
            break
        answered &= _answer(url, prompt, tokens)
    return answered


def _answer(url: str, prompt: str, tokens: str) -> bool:
    """Show the server's text, or why there is none; whether there is."""
    if not tokens.strip().isdecimal():
        complain(f"the number of tokens is {tokens!r}; a whole number is needed")
        return False
    body = {"prompts": [prompt], "tokens_to_generate": int(tokens)}
    try:
        told = call(url, body, method="PUT", key=client_api_key(), timeout=TIMEOUT)
    except ServerError as error:
        complain(str(error))
        return False
    say(f"Megatron Response:\n{told['text'][0]}")
    return True


def _asked(question: str) -> str | None:
    """The line that the user types; None at the end of the input."""
    try:
        return input(question if sys.stdin.isatty() else "")
    except EOFError:
        return None
