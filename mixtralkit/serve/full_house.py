"""A full engine refuses at once: to read the body and to make requests of it would cost more than the refusal."""

from starlette.types import ASGIApp, Receive, Scope, Send

from mixtralkit.serve.come_again import ComeAgain
from mixtralkit.serve.http_errors import MEGATRON_ROUTE, error_response
from mixtralkit.serve.server_state import ServerState

_GENERATING = ("/v1/completions", "/v1/chat/completions", MEGATRON_ROUTE)
_METHODS = ("POST", "PUT")


class RefuseWhenFull:
    """Middleware of the routes that need room in the engine. A request of several may still find too little of it."""

    def __init__(self, app: ASGIApp, state: ServerState, later: ComeAgain) -> None:
        self._app = app
        self._state = state
        self._later = later

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["path"] in _GENERATING and scope["method"] in _METHODS and self._state.full:
            await error_response(scope["path"], self._later.refusal())(scope, receive, send)
        else:
            await self._app(scope, receive, send)
