"""PUT /api (and POST): the route of Megatron's text generation server, for its command line client and others.

    {"prompts": ["To be"], "tokens_to_generate": 8} -> {"text": ["To be, or"], "segments": [[...]], "tokens": [[...]]}

A text ends with the line end that stopped it, as there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mixtralkit.engine.logprobs import TokenLogprobs
from mixtralkit.engine.request import Request as EngineRequest
from mixtralkit.engine.request import SamplingParams
from mixtralkit.serve.http_errors import MEGATRON_ROUTE, HttpError
from mixtralkit.serve.megatron_schema import MegatronRequest
from mixtralkit.serve.openai_logprobs import finite, token_text
from mixtralkit.serve.outputs import Outputs
from mixtralkit.serve.request_desk import RequestDesk
from mixtralkit.serve.request_facts import facts_of
from mixtralkit.serve.route_docs import documented
from mixtralkit.serve.sampling_fields import drawn_seed, nth
from mixtralkit.sizes import counted
from mixtralkit.tokenizer import Tokenizer


def megatron_routes(desk: RequestDesk) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["Megatron"])
    docs = documented("Go on with texts, as Megatron's server does", MegatronRequest, megatron=True)

    async def generate(request: Request) -> Response:
        served = desk.state.take_request()
        body = await desk.read(request, MegatronRequest)
        size = sum(map(len, body.prompts))
        prompts = await desk.heavy(size, lambda: [_encode(p, body, served.tokenizer) for p in body.prompts])
        _check_room(prompts, body.tokens_to_generate, served.context)
        facts_of(request.scope).prompt_tokens = sum(map(len, prompts))
        params = _params(body, served.tokenizer)
        asked = [EngineRequest(prompt, nth(params, index)) for index, prompt in enumerate(prompts)]
        outputs = await desk.ask(request, asked)

        async def whole(outputs: Outputs) -> dict[str, Any]:
            return _document(await _collect(outputs, prompts), body, served.tokenizer)

        return await desk.answer(request, outputs, whole=whole)

    router.put(MEGATRON_ROUTE, **docs)(generate)
    router.post(MEGATRON_ROUTE, **docs)(generate)
    return router


@dataclass
class _Text:
    """A prompt and what was generated after it; `logprobs` begin with the prompt's second token."""

    prompt: tuple[int, ...]
    generated: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)


def _encode(prompt: str, body: MegatronRequest, tokenizer: Tokenizer) -> tuple[int, ...]:
    return tuple(tokenizer.encode(prompt, bos=body.add_BOS))


def _check_room(prompts: Sequence[tuple[int, ...]], count: int, context: int) -> None:
    """Raise `HttpError` 400, as Megatron does, where a text could not get all the `count` tokens asked for.

    A prompt that leaves no room at all is refused on every route.
    """
    longest = max(map(len, prompts))
    if longest < context < longest + count:
        raise HttpError(
            400,
            f"tokens_to_generate is {count}, but the longest prompt has {counted(longest, 'token')} and the context "
            f"{context}, prompt and response together; ask for at most {context - longest}",
        )


def _params(body: MegatronRequest, tokenizer: Tokenizer) -> SamplingParams:
    """The parameters of the first prompt. A `stop_token` ends a text instead of EOS, as in Megatron."""
    stop_token = tokenizer.eos_id if body.stop_token is None else body.stop_token
    own_stop = stop_token != tokenizer.eos_id
    return SamplingParams(
        max_tokens=max(body.tokens_to_generate, 1),  # for 0 the generated token is left out
        temperature=body.temperature,
        top_k=body.top_k,
        top_p=body.top_p or 1.0,
        seed=drawn_seed(body.random_seed),
        stop=(*(["\n\n"] if body.stop_on_double_eol else []), *(["\n"] if body.stop_on_eol else [])),
        stop_token_ids=(stop_token,) if own_stop else (),
        ignore_eos=own_stop,
        logprobs=0 if body.logprobs else None,
        prompt_logprobs=0 if body.logprobs else None,
    )


async def _collect(outputs: Outputs, prompts: Sequence[tuple[int, ...]]) -> list[_Text]:
    texts = [_Text(prompt) for prompt in prompts]
    async for index, output in outputs:
        texts[index].generated += output.tokens
        texts[index].logprobs += (*output.prompt_logprobs, *output.logprobs)
    return texts


def _document(texts: Sequence[_Text], body: MegatronRequest, tokenizer: Tokenizer) -> dict[str, Any]:
    if body.tokens_to_generate == 0:
        for text in texts:
            text.generated.clear()
    tokens = [[*text.prompt, *text.generated] for text in texts]
    document: dict[str, Any] = {
        "text": [prompt + _continuation(text, tokenizer) for prompt, text in zip(body.prompts, texts, strict=True)],
        "segments": [[token_text(tokenizer, token) for token in ids] for ids in tokens],
        "tokens": tokens,
    }
    if body.logprobs:
        document["logprobs"] = [
            [finite(known.logprob) for known in text.logprobs[: len(ids) - 1]]
            for text, ids in zip(texts, tokens, strict=True)
        ]
    return document


def _continuation(text: _Text, tokenizer: Tokenizer) -> str:
    """What was generated, with the line end that stopped it, if any did."""
    decoder = tokenizer.stream(begun=not all(map(tokenizer.is_control, text.prompt)))
    return "".join(map(decoder.push, text.generated)) + decoder.flush()
