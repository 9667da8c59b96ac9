"""Mixtral's [INST] templates: a conversation to the token ids that the model was trained to answer.

    v1 (8x7B)    <s> [INST] U [/INST] A</s> [INST] U2 [/INST]
    v3 (8x22B)   <s>[INST] U[/INST] A</s>[INST] U2[/INST]

Each message is encoded on its own and put between control ids, so no text can forge one. In v3 the markers are control
ids too; in v1, as the model was trained, they are ordinary text, and only BOS and EOS are beyond the reach of a user.
`mistral_common` is the reference that the tests compare with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mixtralkit.errors import RequestError
from mixtralkit.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


def encode_chat(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The prompt that asks for the answer to the last of `messages`.

    A system message may come first; then user and assistant take turns, from user to user. The system text stands
    before a user message, a blank line between: the first one in v1, the last one in v3, as Mistral's own encoders do.
    The tokenizer decides: v3 when "[INST]" is one of its control tokens. Raises `RequestError` for other
    orders of roles.
    """
    system, turns = _checked(messages)
    begin, end = tokenizer.control_id("[INST]"), tokenizer.control_id("[/INST]")
    if begin is None or end is None:
        return _encode_v1(system, turns, tokenizer)
    return _encode_v3(system, turns, tokenizer, begin, end)


def _encode_v1(system: str, turns: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    ids = [tokenizer.bos_id]
    for place, content in enumerate(turns):
        if place % 2:
            ids += [*tokenizer.encode(content, bos=False), tokenizer.eos_id]
        else:
            text = _with_system(system, content) if place == 0 else content
            ids += tokenizer.encode(f"[INST] {text} [/INST]", bos=False)
    return ids


def _encode_v3(system: str, turns: Sequence[str], tokenizer: Tokenizer, begin: int, end: int) -> list[int]:
    ids = [tokenizer.bos_id]
    for place, content in enumerate(turns):
        if place % 2:
            ids += [*tokenizer.encode(content.rstrip(" "), bos=False), tokenizer.eos_id]
        else:
            text = _with_system(system, content) if place == len(turns) - 1 else content
            ids += [begin, *tokenizer.encode(text, bos=False), end]
    return ids


def _with_system(system: str, content: str) -> str:
    return f"{system}\n\n{content}" if system else content


def _checked(messages: Sequence[Message]) -> tuple[str, list[str]]:
    """The system text, "" if there is none, and what user and assistant said in turn."""
    has_system = bool(messages) and messages[0].role == "system"
    turns = messages[1:] if has_system else messages
    for place, message in enumerate(turns):
        expected = "assistant" if place % 2 else "user"
        if message.role != expected:
            number = place + 1 + has_system
            raise RequestError(
                f"message {number} has the role {message.role!r} where {expected!r} is needed: after at most one "
                "system message, user and assistant take turns, and the user begins"
            )
    if len(turns) % 2 == 0:
        raise RequestError("a conversation must end with a message of the user, to be answered")
    return messages[0].content if has_system else "", [message.content for message in turns]
