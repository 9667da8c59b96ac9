"""`mixtralkit chat`: a conversation in the [INST] template. Rank 0 talks, all ranks compute."""

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from mixtralkit.chat_template import Message, encode_chat
from mixtralkit.cli.explain import explain
from mixtralkit.cli.explain_table import explain_lines
from mixtralkit.cli.interrupt import Interrupt
from mixtralkit.cli.options import ChatOptions
from mixtralkit.cli.patience import from_rank_0
from mixtralkit.cli.ranks import run_on_ranks
from mixtralkit.cli.run_files import write_run_files
from mixtralkit.cli.session_settings import load_session
from mixtralkit.cli.strategy_notices import notice_strategies
from mixtralkit.cli.terminal import aside, complain, say
from mixtralkit.dist.launch import Group
from mixtralkit.engine.request import Request
from mixtralkit.errors import RequestError, TokenizerError
from mixtralkit.session.session import Session

COMMANDS = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C ends a response"
_COMMAND = re.compile(r"/[a-z]+")


def chat(options: ChatOptions) -> int:
    """Run the verb; returns the exit status."""
    return run_on_ranks("chat", options, lambda group: _chat(group, options))


def _chat(group: Group, options: ChatOptions) -> None:
    notice_strategies(options)
    if group.rank == 0:
        options.check_outputs()
    session = load_session(group, options, batch_size=1)
    conversation = Conversation(session, options)
    if group.rank == 0 and sys.stdin.isatty():
        aside(f"{COMMANDS}.")
    while _user_goes_on(group, conversation):
        conversation.answer()
    if options.explain:
        explained = explain(session)
        if group.rank == 0:
            aside("\n".join(explain_lines(explained)))
    write_run_files(session, options)


def _user_goes_on(group: Group, conversation: "Conversation") -> bool:
    group.at("waiting for the user")
    return bool(from_rank_0(group.control, conversation.listen))


class Conversation:
    """What was said so far, on rank 0; the other ranks only take part in the answers."""

    def __init__(self, session: Session, options: ChatOptions) -> None:
        self._session = session
        self._options = options
        self._beginning = [Message("system", options.system)] if options.system else []
        self._messages = list(self._beginning)
        self._requests: Sequence[Request] = ()

    def listen(self) -> bool:
        """Read lines until one can be answered; false at the end of the conversation. For rank 0."""
        while (line := _read_line()) is not None and line.strip() != "/exit":
            if line.strip() == "/reset":
                self._messages = list(self._beginning)
            elif _COMMAND.fullmatch(line.strip()):
                complain(f"there is no command {line.strip()}; {COMMANDS}")
            elif line.strip() and self._take(line):
                return True
        return False

    def answer(self) -> None:
        """Answer the last message, showing text as it comes; all ranks call this together."""
        with Interrupt(reads=self._session.group.rank == 0) as interrupt:
            completions = self._session.engine.generate(
                self._requests, lambda _, text: say(text, end=""), interrupted=interrupt.requested
            )
        if self._session.group.rank == 0:
            say("")
            self._messages.append(Message("assistant", completions[0].text))

    def _take(self, line: str) -> bool:
        """Make a request of what the user said; a conversation that has grown too long stays as it was."""
        messages = [*self._messages, Message("user", line)]
        seed = self._options.seed + len(messages)
        config = self._session.model.config
        try:
            request = Request(
                tuple(encode_chat(messages, self._session.tokenizer)), replace(self._options.params, seed=seed)
            )
            request.check(config.vocab_size, config.context)
        except (RequestError, TokenizerError) as error:
            complain(f"{error}; /reset begins anew")
            return False
        self._messages, self._requests = messages, [request]
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
