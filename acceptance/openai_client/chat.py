"""client.chat.completions, whole, streamed, parsed, and from coroutines."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Literal

from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from acceptance.finding import expect
from acceptance.openai_client.clients import QUESTION, Server

AT_A_TIME = 8


class Entrance(BaseModel):
    """What a grammar makes even a toy model say."""

    speaker: Literal["ROMEO", "JULIET"]
    act: Literal[1, 2, 3, 4, 5]
    alone: bool


def messages(question: str = QUESTION) -> list[ChatCompletionMessageParam]:
    """A conversation of one question."""
    return [{"role": "system", "content": "Speak in verse."}, {"role": "user", "content": question}]


def whole(server: Server) -> str:
    """An answer, with the counts."""
    answer = server.client().chat.completions.create(
        model=server.model, messages=messages(), max_completion_tokens=24, extra_body={"ignore_eos": True}
    )
    choice, usage = answer.choices[0], answer.usage
    assert usage is not None
    expect(choice.message.role == "assistant" and choice.message.content, f"{choice}")
    expect(usage.completion_tokens == 24 and choice.finish_reason == "length", f"{usage}, {choice.finish_reason}")
    return f"{usage.prompt_tokens} + 24 tokens"


def stream(server: Server) -> str:
    """The role comes first, the pieces are the text of the answer in one piece, usage comes last."""
    client = server.client()
    at_once = client.chat.completions.create(model=server.model, messages=messages(), max_tokens=40, seed=3)
    chunks = list(
        client.chat.completions.create(
            model=server.model,
            messages=messages(),
            max_tokens=40,
            seed=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    expect([delta.role for delta in deltas] == ["assistant"] + [None] * (len(deltas) - 1), f"{deltas}")
    text = "".join(delta.content or "" for delta in deltas)
    expect(text == at_once.choices[0].message.content, f"{text!r} is not {at_once.choices[0].message.content!r}")
    expect(chunks[-1].choices == [] and chunks[-1].usage == at_once.usage, f"the last chunk is {chunks[-1]}")
    return f"{len(chunks)} chunks, {len(text)} characters"


def logprobs(server: Server) -> str:
    """An entry for each token, with so many alternatives, and the bytes that the text is made of."""
    answer = server.client().chat.completions.create(
        model=server.model, messages=messages(), max_tokens=10, temperature=0, logprobs=True, top_logprobs=4
    )
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert answer.usage is not None
    expect(len(told.content) == answer.usage.completion_tokens, f"{len(told.content)} entries")
    for entry in told.content:
        expect(len(entry.top_logprobs) == 4, f"{entry}")
        expect(entry.logprob == entry.top_logprobs[0].logprob, f"greedy, and not the likeliest: {entry}")
    said = b"".join(bytes(entry.bytes or []) for entry in told.content).decode("utf-8", errors="replace")
    text = answer.choices[0].message.content or ""
    expect(said.strip() == text.strip(), f"{said!r} is not {text!r}")
    return f"{len(told.content)} entries"


def parsed(server: Server) -> str:
    """client.chat.completions.parse() gets an object of a class, three times."""
    answer = server.client().chat.completions.parse(
        model=server.model, messages=messages(), response_format=Entrance, n=3, seed=5, max_tokens=400
    )
    found = [choice.message.parsed for choice in answer.choices]
    expect(all(isinstance(entrance, Entrance) for entrance in found), f"{found}")
    return f"{found[0]!r}"


def together(server: Server) -> str:
    """Streams of coroutines at a time give the texts that each gives alone."""
    questions = [f"{QUESTION} {number}" for number in range(AT_A_TIME)]
    client = server.client()
    alone = [
        client.chat.completions.create(model=server.model, messages=messages(question), max_tokens=24, seed=number)
        for number, question in enumerate(questions)
    ]
    texts = asyncio.run(_all_at_once(server, questions))
    expect(texts == [answer.choices[0].message.content for answer in alone], f"{texts}")
    return f"{AT_A_TIME} at a time"


async def _all_at_once(server: Server, questions: list[str]) -> list[str]:
    async with server.async_client() as client:

        async def one(number: int, question: str) -> str:
            chunks = await client.chat.completions.create(
                model=server.model, messages=messages(question), max_tokens=24, seed=number, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        return await asyncio.gather(*(one(number, question) for number, question in enumerate(questions)))


CHECKS: Mapping[str, Callable[[Server], str]] = {
    "chat: an answer": whole,
    "chat: a stream with usage": stream,
    "chat: logprobs": logprobs,
    "chat: parse() into a class": parsed,
    "chat: streams of coroutines": together,
}
