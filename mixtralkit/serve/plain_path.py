"""Paths with control characters are nowhere: a route's pattern may take what a comparison of texts does not."""

from starlette.types import ASGIApp, Receive, Scope, Send

from mixtralkit.serve.http_errors import HttpError, error_response


class RefuseOddPaths:
    """Middleware that answers 404 to a path such as /metrics%0a, which a regular expression with `$` would let pass."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path: str = scope["path"]
        if any(ord(character) < 32 or ord(character) == 127 for character in path):
            error = HttpError(404, "a path has no control characters", code="not_found")
            await error_response(path, error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)
