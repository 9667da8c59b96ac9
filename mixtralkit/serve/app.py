"""The application: all routes of one server, and what every request passes through on its way to them."""

from collections.abc import Container
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from mixtralkit import __version__
from mixtralkit.errors import MixtralKitError
from mixtralkit.serve.access_log import AccessLog
from mixtralkit.serve.api_keys import ApiKeys, RequireKey
from mixtralkit.serve.body_limit import LimitBody
from mixtralkit.serve.chat_completions import chat_routes
from mixtralkit.serve.completions import completion_routes
from mixtralkit.serve.full_house import RefuseWhenFull
from mixtralkit.serve.health import health_routes
from mixtralkit.serve.http_errors import HttpError, as_http_error, error_response
from mixtralkit.serve.megatron import megatron_routes
from mixtralkit.serve.megatron_schema import MegatronRequest
from mixtralkit.serve.metrics import Metrics
from mixtralkit.serve.models_route import model_routes
from mixtralkit.serve.openai_schema import ChatRequest, CompletionRequest
from mixtralkit.serve.own_hosts import RefuseOtherHosts
from mixtralkit.serve.page_files import page_paths, page_routes
from mixtralkit.serve.page_state import page_state_routes
from mixtralkit.serve.plain_path import RefuseOddPaths
from mixtralkit.serve.request_desk import RequestDesk
from mixtralkit.serve.route_docs import add_schemas
from mixtralkit.serve.tokenizer_routes import DetokenizeRequest, TokenizeRequest, tokenizer_routes

BODIES: tuple[type[BaseModel], ...] = (
    CompletionRequest,
    ChatRequest,
    MegatronRequest,
    TokenizeRequest,
    DetokenizeRequest,
)


def make_app(
    desk: RequestDesk, metrics: Metrics, *, keys: ApiKeys, hosts: Container[str] | None, body_bytes: int
) -> ASGIApp:
    """The ASGI application. No other site's page may read its answers: it has no CORS headers.

    It answers only to the names `hosts`, None: to any. A body has at most `body_bytes`.
    """
    state = desk.state
    app = _Documented(title="mixtralkit", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    for router in (
        completion_routes(desk),
        chat_routes(desk),
        model_routes(state),
        tokenizer_routes(desk),
        megatron_routes(desk),
        health_routes(state, metrics),
        page_state_routes(state, metrics),  # before the files, whose route takes whatever is below /page/
        page_routes(),
    ):
        app.include_router(router)
    for kind in (HttpError, HTTPException, MixtralKitError, ClientDisconnect, Exception):
        app.add_exception_handler(kind, _answer_error)
    answers = RefuseOddPaths(RefuseWhenFull(LimitBody(app, body_bytes), state, desk.later))
    guarded: ASGIApp = RequireKey(answers, keys, open_to_all=page_paths() | {"/health/live"})
    return AccessLog(guarded if hosts is None else RefuseOtherHosts(guarded, hosts))


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(request.url.path, as_http_error(error))


class _Documented(FastAPI):
    """With the schemas of the bodies that request_body.py reads."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            self.openapi_schema = add_schemas(super().openapi(), BODIES)
        return self.openapi_schema
