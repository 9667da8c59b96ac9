"""POST /v1/completions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mixtralkit.engine.request import Request as EngineRequest
from mixtralkit.errors import TokenizerError
from mixtralkit.serve.completion_choice import CompletionChoice, Prompt
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.openai_answer import OpenAIAnswer
from mixtralkit.serve.openai_schema import CompletionRequest
from mixtralkit.serve.request_desk import RequestDesk
from mixtralkit.serve.request_facts import facts_of
from mixtralkit.serve.route_docs import documented
from mixtralkit.serve.sampling_fields import check_alternatives, nth, sampling_params
from mixtralkit.serve.usage import Usage
from mixtralkit.tokenizer import Tokenizer

DEFAULT_MAX_TOKENS = 16
MOST_RESPONSES = 1024  # to all the prompts of a request


def completion_routes(desk: RequestDesk) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/completions", **documented("Go on with a text", CompletionRequest, streams=True))
    async def completions(request: Request) -> Response:
        served = desk.state.take_request()
        body = await desk.read(request, CompletionRequest)
        desk.check_model(body.model)
        desk.ignored.look_at(body)
        check_alternatives(body)
        check_count(body)
        prompts = await desk.heavy(_size(body), lambda: read_prompts(body, served.tokenizer))
        asked = _Asked(body, prompts)
        requests = asked.requests()
        outputs = await desk.ask(request, requests)
        answer = _answer(desk, request, asked, requests, served.tokenizer)
        stream = answer.stream if body.stream else None
        return await desk.answer(request, outputs, whole=answer.whole, stream=stream)

    return router


def check_count(body: CompletionRequest) -> None:
    """Raise `HttpError` 400 for more responses than a request may ask for."""
    count = len(_several(body)) * (body.n or 1)
    if count > MOST_RESPONSES:
        message = f"n: {count} responses are asked for, and at most {MOST_RESPONSES} can be; send several requests"
        raise HttpError(400, message, param="n")


def read_prompts(body: CompletionRequest, tokenizer: Tokenizer) -> list[Prompt]:
    """The prompts in tokens. Text gets a BOS token before it; ids are taken as they are."""
    return [_read_prompt(prompt, tokenizer, echo=bool(body.echo)) for prompt in _several(body)]


def _several(body: CompletionRequest) -> Sequence[Any]:
    """The prompts, which may be one."""
    given = body.prompt
    return [given] if isinstance(given, str) or isinstance(given[0], int) else given


def _read_prompt(prompt: str | list[int], tokenizer: Tokenizer, *, echo: bool) -> Prompt:
    try:
        if isinstance(prompt, str):
            tokens, text = tokenizer.encode(prompt), prompt
        else:
            tokenizer.check(prompt)
            tokens, text = prompt, tokenizer.decode(prompt) if echo else ""
    except TokenizerError as error:
        raise HttpError(400, f"prompt: {error}", param="prompt") from error
    return Prompt(tuple(tokens), text, has_text=not all(map(tokenizer.is_control, tokens)))


@dataclass(frozen=True)
class _Asked:
    """A request of the route; its responses are in the order of the prompts, n of each."""

    body: CompletionRequest
    prompts: Sequence[Prompt]

    @property
    def alternatives(self) -> int:
        return self.body.n or 1

    @property
    def max_tokens(self) -> int:
        return DEFAULT_MAX_TOKENS if self.body.max_tokens is None else self.body.max_tokens

    def requests(self) -> list[EngineRequest]:
        """What the engine is asked. What follows a grammar begins afresh: the grammar knows no space before it."""
        scored = self.body.logprobs if self.body.echo else None
        params = sampling_params(
            self.body, max_tokens=self.max_tokens, logprobs=self.body.logprobs, prompt_logprobs=scored
        )
        alternatives = [nth(params, index) for index in range(self.alternatives)]
        priority = self.body.priority or 0
        return [
            EngineRequest(prompt.tokens, alternative, priority, continues=prompt.has_text and not params.grammar)
            for prompt in self.prompts
            for alternative in alternatives
        ]


def _answer(
    desk: RequestDesk, request: Request, asked: _Asked, requests: Sequence[EngineRequest], tokenizer: Tokenizer
) -> OpenAIAnswer:
    facts = facts_of(request.scope)
    facts.prompt_tokens = sum(len(prompt.tokens) for prompt in asked.prompts)
    choices = [
        CompletionChoice(
            index,
            asked.prompts[index // asked.alternatives],
            tokenizer,
            continues=asked_for.continues,
            echo=bool(asked.body.echo),
            generates=asked.max_tokens > 0,
            logprobs=asked.body.logprobs is not None,
            token_ids=bool(asked.body.return_token_ids),
        )
        for index, asked_for in enumerate(requests)
    ]
    usage = Usage(facts.prompt_tokens, asked.alternatives, generates=asked.max_tokens > 0)
    kinds = ("text_completion", "text_completion")
    return OpenAIAnswer(f"cmpl-{facts.name}", kinds, desk.state.model_name, choices, usage, asked.body)


def _size(body: CompletionRequest) -> int:
    """About how many bytes there are to tokenize."""
    return sum(len(part) if isinstance(part, str | list) else 1 for part in body.prompt)
