"""The tokenizer for clients that have none: lm-evaluation-harness without transformers asks these routes."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request

from mixtralkit.serve.chat_completions import encode_messages
from mixtralkit.serve.chat_markup import TEMPLATE_V1, TEMPLATE_V3, encode_marked
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.openai_schema import Checked, Messages, Text, Tokens
from mixtralkit.serve.request_desk import RequestDesk
from mixtralkit.serve.route_docs import documented
from mixtralkit.tokenizer import Tokenizer


class TokenizeRequest(Checked):
    """A text, or a conversation, of which the prompt is told that /v1/chat/completions would make."""

    prompt: Text | None = None
    messages: Messages | None = None
    add_special_tokens: bool | None = None
    model: Annotated[str, Field(max_length=1024)] | None = None


class DetokenizeRequest(Checked):
    """Token ids."""

    tokens: Tokens
    model: Annotated[str, Field(max_length=1024)] | None = None


def tokenizer_routes(desk: RequestDesk) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["tokenizer"])

    @router.get("/tokenizer_info", summary="The special tokens and the chat template")
    async def tokenizer_info() -> dict[str, Any]:
        tokenizer = desk.state.tokenizer()
        return {
            "tokenizer_class": "sentencepiece",
            "bos_token": tokenizer.piece(tokenizer.bos_id),
            "eos_token": tokenizer.piece(tokenizer.eos_id),
            "pad_token": None,
            "unk_token": tokenizer.piece(tokenizer.unk_id),
            "chat_template": TEMPLATE_V1 if tokenizer.control_id("[INST]") is None else TEMPLATE_V3,
        }

    @router.post("/tokenize", **documented("Text to token ids", TokenizeRequest))
    async def tokenize(request: Request) -> dict[str, Any]:
        tokenizer = desk.state.tokenizer()
        body = await desk.read(request, TokenizeRequest)
        desk.check_model(body.model)
        desk.ignored.look_at(body)
        tokens = await desk.heavy(_size(body), lambda: _tokenize(body, tokenizer))
        served = desk.state.loaded_model
        return {"tokens": tokens, "count": len(tokens), "max_model_len": served.context if served else None}

    @router.post("/detokenize", **documented("Token ids to text", DetokenizeRequest))
    async def detokenize(request: Request) -> dict[str, str]:
        tokenizer = desk.state.tokenizer()
        body = await desk.read(request, DetokenizeRequest)
        desk.check_model(body.model)
        desk.ignored.look_at(body)
        return {"prompt": await desk.heavy(len(body.tokens), lambda: tokenizer.decode(body.tokens))}

    return router


def _tokenize(body: TokenizeRequest, tokenizer: Tokenizer) -> list[int]:
    if (body.prompt is None) == (body.messages is None):
        raise HttpError(400, "prompt: give either prompt or messages", param="prompt")
    if body.messages is not None:
        return encode_messages(body.messages, tokenizer)
    assert body.prompt is not None
    return encode_marked(body.prompt, tokenizer, bos=body.add_special_tokens is not False)


def _size(body: TokenizeRequest) -> int:
    """About how many bytes there are to tokenize."""
    return len(body.prompt or "") + sum(len(message.text) for message in body.messages or ())
