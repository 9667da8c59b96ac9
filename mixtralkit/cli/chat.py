"""`mixtralkit chat`: a conversation in the [INST] template. Rank 0 talks, all ranks compute."""

import sys
from collections.abc import Sequence
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
from mixtralkit.cli.talk import COMMANDS, Talk
from mixtralkit.cli.terminal import aside, complain, say
from mixtralkit.dist.launch import Group
from mixtralkit.engine.request import Request
from mixtralkit.errors import RequestError, TokenizerError
from mixtralkit.session.session import Session


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


class Conversation(Talk):
    """Rank 0 keeps what was said; the other ranks only take part in the answers."""

    def __init__(self, session: Session, options: ChatOptions) -> None:
        super().__init__(options.system)
        self._session = session
        self._options = options
        self._requests: Sequence[Request] = ()

    def answer(self) -> None:
        """Answer the last message, showing text as it comes; all ranks call this together."""
        with Interrupt(reads=self._session.group.rank == 0) as interrupt:
            completions = self._session.engine.generate(
                self._requests, lambda _, text: say(text, end=""), interrupted=interrupt.requested
            )
        if self._session.group.rank == 0:
            say("")
            self.messages.append(Message("assistant", completions[0].text))

    def accepts(self, messages: list[Message]) -> bool:
        """Make a request of what was said, unless the conversation has grown too long."""
        params = replace(self._options.params, seed=self._options.seed + len(messages))
        try:
            request = Request(tuple(encode_chat(messages, self._session.tokenizer)), params)
            self._session.engine.check(request)
        except (RequestError, TokenizerError) as error:
            complain(f"{error}; /reset begins anew")
            return False
        self._requests = [request]
        return True
