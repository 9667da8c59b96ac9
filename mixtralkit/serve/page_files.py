"""The page's files, from the package: `/` and everything below `/page/`. Read once, so no path reaches outside."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from mixtralkit.serve.http_errors import HttpError

FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: dict[str, str]


def page_routes() -> APIRouter:
    """The routes of the files that the folder has now."""
    router = APIRouter(include_in_schema=False)
    files = {name: _read(FOLDER / name) for name in _names()}

    @router.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return _answer(files.get("index.html"), request)

    @router.api_route("/page/{name:path}", methods=["GET", "HEAD"])
    async def page_file(request: Request, name: str) -> Response:
        return _answer(files.get(name), request)

    return router


def page_paths() -> frozenset[str]:
    """Where the files are. They hold no secrets, and a browser sends no key with them."""
    return frozenset({"/", *(f"/page/{name}" for name in _names())})


def _names() -> list[str]:
    return [path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.suffix in _TYPES]


def _read(path: Path) -> _File:
    content = path.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, {**_HEADERS, "content-type": _TYPES[path.suffix], "etag": tag})


def _answer(file: _File | None, request: Request) -> Response:
    if file is None:
        raise HttpError(404, "the page has no such file")
    if request.headers.get("if-none-match") == file.headers["etag"]:
        return Response(status_code=304, headers=file.headers)
    return Response(file.content, headers=file.headers)
