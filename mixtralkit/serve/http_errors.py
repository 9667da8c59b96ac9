"""Errors as clients read them: OpenAI's object everywhere, and `{"message"}` on Megatron's route.

    {"error": {"message": "n: at most 128", "type": "invalid_request_error", "param": "n", "code": null}}

429 and 503 come with Retry-After, upon which the openai client tries again, or with what keeps it from that.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from mixtralkit.engine.request import EngineClosed
from mixtralkit.errors import MixtralKitError, RequestError, TokenizerError

MEGATRON_ROUTE = "/api"
RETRY_SECONDS = 1
GONE = 499  # what logs call the status of an answer that nobody waits for any more
_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable_error",
}
_PARAM = re.compile(r"(\w+)(?: is |: )")


class HttpError(Exception):
    """A request that is answered with an error; `param` is the field at fault, `code` a word for programs.

    `again` is whether the same request may be answered later.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.headers = {**(_advice(again) if status in (429, 503) else {}), **(headers or {})}

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {
            "error": {
                "message": str(self),
                "type": _TYPES.get(self.status, "invalid_request_error"),
                "param": self.param,
                "code": self.code,
            }
        }


def _advice(again: bool) -> dict[str, str]:
    """What the openai client does as it is told."""
    return {"retry-after": str(RETRY_SECONDS)} if again else {"x-should-retry": "false"}


class ClientGone(HttpError):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__(GONE, "the client has closed the connection", code="client_closed_request")


def time_out(deadline: float) -> HttpError:
    """The end of a request that has taken so many seconds. The next one like it would, too."""
    message = f"the request was not answered within {deadline:g} s; ask for less at a time"
    return HttpError(503, message, code="request_timeout", again=False)


def as_http_error(error: Exception) -> HttpError:
    """The answer to a request that raised `error`; what is nobody's fault but ours is a 500 without details."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, ClientDisconnect):
        return ClientGone()
    if isinstance(error, HTTPException):
        return _of_framework(error)
    if isinstance(error, EngineClosed):
        return HttpError(503, str(error), code="engine_failed")
    if isinstance(error, RequestError | TokenizerError):
        field = _PARAM.match(str(error))
        return HttpError(400, str(error), param=field[1] if field and isinstance(error, RequestError) else None)
    if isinstance(error, MixtralKitError):
        return HttpError(503, str(error))
    return HttpError(500, "the server failed to answer; its log tells why", code="internal_error")


def error_response(path: str, error: HttpError) -> JSONResponse:
    """The response that says `error` to whoever asked for `path`."""
    if path != MEGATRON_ROUTE:
        return JSONResponse(error.body(), error.status, headers=error.headers)
    # Of its two routes with one path, the framework tells the methods of the first one alone.
    allowed = {"allow": "POST, PUT"} if error.status == 405 else {}
    return JSONResponse({"message": str(error)}, error.status, headers={**error.headers, **allowed})


def _of_framework(error: HTTPException) -> HttpError:
    """What routing refuses: a path or a method that is not there."""
    phrase = HTTPStatus(error.status_code).phrase.lower()
    hints = {
        404: "there is no such route; GET /openapi.json lists those that are",
        405: "the method is not allowed here",
    }
    message = hints.get(error.status_code, str(error.detail))
    return HttpError(error.status_code, message, code=phrase.replace(" ", "_"), headers=error.headers)
