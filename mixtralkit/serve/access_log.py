"""One line of JSON a request in the log, and the last word on errors.

    {"method": "POST", "route": "/v1/completions", "status": 200, "seconds": 0.412, "prompt_tokens": 9, ...}

Of what a client wrote only the path is logged, and that only where there is no such route.
"""

import json
import logging

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mixtralkit.log import get_logger
from mixtralkit.serve.http_errors import GONE, as_http_error, error_response
from mixtralkit.serve.request_facts import RequestFacts, attach_facts

_logger = get_logger(__name__)
_QUIET_ROUTES = ("/health", "/health/live", "/health/ready", "/metrics", "/page/state.json")  # asked all the time
_LONGEST_PATH = 200


class AccessLog:
    """The outermost middleware: gives every request its name, logs it, and answers what nobody else has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return  # no lifespan, no web sockets
        facts = attach_facts(scope)
        status = 0
        answered = False

        async def receive_noting() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and not answered:
                status = GONE
            return message

        async def send_named(message: Message) -> None:
            nonlocal status, answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = status or message["status"]
                MutableHeaders(scope=message)["x-request-id"] = facts.name
            await send(message)

        try:
            await self._app(scope, receive_noting, send_named)
        except Exception as error:  # one request's bug must not be the end of the others'
            _logger.error("request %s failed", facts.name, exc_info=error)
            if not status:
                await error_response(scope["path"], as_http_error(error))(scope, receive, send_named)
        finally:
            facts.end()
        _log(scope, facts, status)


def _log(scope: Scope, facts: RequestFacts, status: int) -> None:
    route = getattr(scope.get("route"), "path", None)
    level = logging.DEBUG if route in _QUIET_ROUTES and status < 500 else logging.INFO
    if not _logger.isEnabledFor(level):
        return
    client = scope.get("client")
    line = {
        "method": scope["method"],
        "route": route or scope["path"][:_LONGEST_PATH],
        "status": status,
        "seconds": round(facts.seconds, 4),
        "prompt_tokens": facts.prompt_tokens,
        "output_tokens": facts.output_tokens,
        "request": facts.name,
        "client": client[0] if client else None,
    }
    # json escapes whatever could move a cursor or forge a line.
    _logger.log(level, "%s", json.dumps(line))
