"""Asking an HTTP server that speaks JSON, for the clients of the command line."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from typing import Any, cast

from mixtralkit.errors import MixtralKitError

_EVENT = b"data: "
_END = b"[DONE]"
_UNAUTHORIZED = 401


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """None of the routes needs any, and a key is for the server that was named."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the answer is an error then."""


_opener = urllib.request.build_opener(_NoRedirects)


class ServerError(MixtralKitError):
    """The server cannot be reached, or refused what it was asked."""


def call(url: str, body: Any = None, *, method: str = "", key: str | None = None, timeout: float) -> Any:
    """The JSON that the server answers at `url`; with a `body`, which is sent as JSON, by POST unless `method` says.

    `timeout` is in seconds, of every single wait. Raises `ServerError` with the server's words.
    """
    with closing(_open(url, body, method, key, timeout)) as response:
        try:
            return json.loads(response.read())
        except (ValueError, HTTPException, OSError) as error:
            raise ServerError(f"{url} did not answer with JSON: {error}") from error


def events(url: str, body: Any, *, key: str | None = None, timeout: float) -> Iterator[Any]:
    """The JSON of each event that the server sends, until it says that this was all. Raises as `call` does."""
    with closing(_open(url, body, "", key, timeout)) as response:
        try:
            for line in response:
                data = line.removeprefix(_EVENT).strip()
                if data == _END:
                    return
                if line.startswith(_EVENT):
                    yield _checked(json.loads(data))
        except (ValueError, HTTPException, OSError) as error:
            raise ServerError(f"{url} ended in the middle of its answer: {error}") from error
    raise ServerError(f"{url} ended in the middle of its answer")


def _open(url: str, body: Any, method: str, key: str | None, timeout: float) -> HTTPResponse:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(url, data, headers, method=method or None)
        return cast(HTTPResponse, _opener.open(request, timeout=timeout))
    except urllib.error.HTTPError as error:
        hint = "; set MIXTRALKIT_API_KEY to a key of the server's" if error.code == _UNAUTHORIZED else ""
        raise ServerError(f"{url} answered {error.code}: {_words(error.read()) or error.reason}{hint}") from error
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ServerError(f"cannot ask {url}: {reason}; is the address right, and the server running?") from error


def _checked(event: Any) -> Any:
    if isinstance(event, dict) and "error" in event:
        raise ServerError(f"the server says: {_words(json.dumps(event).encode())}")
    return event


def _words(content: bytes) -> str:
    """What an error says, in OpenAI's form or Megatron's."""
    try:
        told = json.loads(content)
        error = told.get("error", told)
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, AttributeError, KeyError):
        return ""
