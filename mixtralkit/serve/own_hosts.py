"""Without keys a server that only this machine reaches answers only to this machine's names.

A page of another site whose name is turned to 127.0.0.1 after it was loaded would otherwise be of the server's own
origin, and could use it.
"""

import ipaddress
import socket
from collections.abc import Container

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mixtralkit.serve.http_errors import HttpError, error_response


class RefuseOtherHosts:
    """Middleware that answers 421 where the header Host has none of `hosts`; without the header no browser asks."""

    def __init__(self, app: ASGIApp, hosts: Container[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        host = Headers(scope=scope).get("host")
        if host is None or _without_port(host) in self._hosts:
            await self._app(scope, receive, send)
            return
        error = HttpError(
            421,
            "without API keys this server answers only where the header Host has a name of its own machine, such as "
            "127.0.0.1 or localhost; set keys, or have the proxy in front send such a name",
            code="misdirected_request",
        )
        await error_response(scope["path"], error)(scope, receive, send)


def own_hosts(listener: socket.socket, host: str | None) -> frozenset[str] | None:
    """The names of this machine, and `host`, if nobody else can reach `listener`; else None, for any name."""
    address = str(listener.getsockname()[0])
    if not ipaddress.ip_address(address).is_loopback:
        return None
    names = {"localhost", "127.0.0.1", "::1", address, (host or address).lower()}
    return frozenset(f"[{name}]" if ":" in name else name for name in names)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
