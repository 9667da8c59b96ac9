"""`mixtralkit chat --url`: the conversation, with a server that speaks OpenAI's API."""

import sys
from collections.abc import Iterator
from dataclasses import asdict

from mixtralkit.chat_template import Message
from mixtralkit.cli.http_calls import ServerError, call, events
from mixtralkit.cli.interrupt import Interrupt
from mixtralkit.cli.options import ChatOptions
from mixtralkit.cli.talk import COMMANDS, Talk
from mixtralkit.cli.terminal import aside, complain, say
from mixtralkit.env import client_api_key


def remote_chat(options: ChatOptions) -> int:
    """Run the verb; returns the exit status. Raises `ServerError` when there is no such server."""
    conversation = RemoteConversation(options)
    if sys.stdin.isatty():
        aside(f"{conversation.model} at {options.url}. {COMMANDS}.")
    while conversation.listen():
        conversation.answer()
    return 0


class RemoteConversation(Talk):
    """What was said so far. The server answers, and forgets."""

    def __init__(self, options: ChatOptions) -> None:
        super().__init__(options.system)
        self._options = options
        self._base = options.url.rstrip("/").removesuffix("/v1") + "/v1"
        self._key = client_api_key()
        models = call(f"{self._base}/models", key=self._key, timeout=options.timeout)
        try:
            self.model = str(models["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise ServerError(f"{options.url} names no model; it does not speak OpenAI's API") from error

    def answer(self) -> None:
        """Answer the last message, showing text as it comes; one that fails is as if it had not been said."""
        text = ""
        try:
            with Interrupt(reads=True) as interrupt:
                for piece in self._pieces():
                    say(piece, end="")
                    text += piece
                    if interrupt.requested():
                        break
        except ServerError as error:
            complain(str(error))
            self.messages.pop()
            return
        say("")
        self.messages.append(Message("assistant", text))

    def _pieces(self) -> Iterator[str]:
        """The text of the answer as it comes."""
        params = self._options.params
        body = {
            "model": self.model,
            "messages": [asdict(message) for message in self.messages],
            "stream": True,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "seed": params.seed + len(self.messages),
            "stop": list(params.stop),
        }
        url = f"{self._base}/chat/completions"
        for event in events(url, body, key=self._key, timeout=self._options.timeout):
            for choice in event["choices"]:
                yield choice["delta"].get("content") or ""
