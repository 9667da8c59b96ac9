"""API keys: with any set, every route but a few needs one of them as `Authorization: Bearer KEY`."""

import hashlib
import hmac
from collections.abc import Container, Iterable
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mixtralkit.errors import UsageError
from mixtralkit.serve.http_errors import HttpError, error_response


class ApiKeys:
    """The keys that are accepted; none: no key is asked for. Only their hashes are kept.

    Raises `UsageError` for a key that no HTTP header can carry.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        keys = list(keys)
        for place, key in enumerate(keys, start=1):
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(
                    f"API key {place} is empty or has other characters than printable ASCII without spaces"
                )
        self._digests = [_digest(key.encode("ascii")) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __or__(self, other: "ApiKeys") -> "ApiKeys":
        either = ApiKeys()
        either._digests = [*self._digests, *other._digests]
        return either

    @classmethod
    def from_variable(cls, name: str, value: str | None) -> "ApiKeys":
        """The keys in an environment variable, separated by commas, spaces or line ends; none where it is not set.

        One that is set was meant to keep others out: without a key in it, it is refused.
        """
        keys = (value or "").replace(",", " ").split()
        if value is not None and not keys:
            raise UsageError(
                f"{name} is set, but has no API key; write keys in it, with commas between them, or unset it for a "
                "server that asks for none"
            )
        return cls(keys)

    @classmethod
    def from_file(cls, path: str | Path) -> "ApiKeys":
        """The keys in a file, one a line; empty lines and lines that begin with # do not count."""
        try:
            lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the API keys in {path}: {error}") from error
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UsageError(f"{path} has no API key; write one a line")
        return cls(keys)

    def accepts(self, authorization: str | None) -> bool:
        """Whether the header `Authorization` has one of the keys. Takes as long for a wrong key as for a right one."""
        if not self._digests:
            return True
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip().encode("latin-1", "replace"))
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == "bearer" and any(matches)


class RequireKey:
    """Middleware that answers 401 to whoever has no key; the paths `open_to_all` need none, spelled as they are."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, open_to_all: Container[str]) -> None:
        self._app = app
        self._keys = keys
        self._open = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["path"] in self._open or self._keys.accepts(Headers(scope=scope).get("authorization")):
            await self._app(scope, receive, send)
            return
        error = HttpError(
            401,
            "a valid API key is needed, as the header Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"www-authenticate": "Bearer"},
        )
        await error_response(scope["path"], error)(scope, receive, send)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
