"""POST /v1/chat/completions."""

from collections.abc import Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mixtralkit.chat_template import Message, encode_chat
from mixtralkit.engine.output import Output
from mixtralkit.engine.request import Request as EngineRequest
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.openai_answer import FINISH, OpenAIAnswer
from mixtralkit.serve.openai_logprobs import Told, chat_logprobs
from mixtralkit.serve.openai_schema import ChatMessage, ChatRequest
from mixtralkit.serve.request_desk import RequestDesk
from mixtralkit.serve.request_facts import facts_of
from mixtralkit.serve.route_docs import documented
from mixtralkit.serve.sampling_fields import check_alternatives, nth, sampling_params
from mixtralkit.serve.usage import Usage
from mixtralkit.tokenizer import Tokenizer

KINDS = ("chat.completion.chunk", "chat.completion")


def chat_routes(desk: RequestDesk) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["OpenAI"])

    @router.post("/v1/chat/completions", **documented("Answer in a conversation", ChatRequest, streams=True))
    async def chat_completions(request: Request) -> Response:
        served = desk.state.take_request()
        body = await desk.read(request, ChatRequest)
        desk.check_model(body.model)
        desk.ignored.look_at(body)
        check_alternatives(body)
        size = sum(len(message.text) for message in body.messages)
        prompt = await desk.heavy(size, lambda: encode_messages(body.messages, served.tokenizer))
        requests = _requests(body, tuple(prompt), served.context)
        outputs = await desk.ask(request, requests)
        answer = _answer(desk, request, body, len(prompt), served.tokenizer)
        stream = answer.stream if body.stream else None
        return await desk.answer(request, outputs, whole=answer.whole, stream=stream)

    return router


def encode_messages(messages: Sequence[ChatMessage], tokenizer: Tokenizer) -> list[int]:
    """The prompt that asks for the next answer. Raises `RequestError` for other orders of roles."""
    roles = {"developer": "system"}
    return encode_chat([Message(roles.get(m.role, m.role), m.text) for m in messages], tokenizer)  # type: ignore[arg-type]


def _requests(body: ChatRequest, prompt: tuple[int, ...], context: int) -> list[EngineRequest]:
    """What the engine is asked; without max_tokens an answer may be as long as the context allows."""
    if body.top_logprobs and not body.logprobs:
        raise HttpError(400, "top_logprobs: needs logprobs to be true", param="top_logprobs")
    given = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    if given == 0:
        raise HttpError(400, "max_tokens: an answer needs at least 1 token", param="max_tokens")
    most = max(context - len(prompt), 1) if given is None else given
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    params = sampling_params(body, max_tokens=most, logprobs=logprobs)
    return [EngineRequest(prompt, nth(params, index), body.priority or 0) for index in range(body.n or 1)]


def _answer(desk: RequestDesk, request: Request, body: ChatRequest, length: int, tokenizer: Tokenizer) -> OpenAIAnswer:
    facts = facts_of(request.scope)
    facts.prompt_tokens = length
    choices = [ChatChoice(index, tokenizer, logprobs=bool(body.logprobs)) for index in range(body.n or 1)]
    usage = Usage(length, len(choices))
    return OpenAIAnswer(f"chatcmpl-{facts.name}", KINDS, desk.state.model_name, choices, usage, body)


class ChatChoice:
    """One answer as it grows; the first delta carries the role."""

    def __init__(self, index: int, tokenizer: Tokenizer, *, logprobs: bool) -> None:
        self._index = index
        self._tokenizer = tokenizer
        self._logprobs = logprobs
        self._begun = False

    def add(self, output: Output) -> Told | None:
        """Take an output; returns the choice of the chunk that tells what is new, None where nothing is."""
        if not (output.tokens or output.finish_reason):
            return None
        role = {} if self._begun else {"role": "assistant"}
        self._begun = True
        return {
            "index": self._index,
            "delta": {**role, "content": output.text},
            "logprobs": chat_logprobs(self._tokenizer, output.logprobs) if self._logprobs else None,
            "finish_reason": FINISH[output.finish_reason],
        }

    def merge(self, deltas: Sequence[Told]) -> Told:
        """The choice of an answer in one piece."""
        content = "".join(delta["delta"]["content"] for delta in deltas)
        logprobs = [entry for delta in deltas if delta["logprobs"] for entry in delta["logprobs"]["content"]]
        return {
            "index": self._index,
            "message": {"role": "assistant", "content": content, "refusal": None},
            "logprobs": {"content": logprobs} if self._logprobs else None,
            "finish_reason": deltas[-1]["finish_reason"],
        }
