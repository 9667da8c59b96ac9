"""From the bytes of a body to a checked request."""

import re
from itertools import islice
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from mixtralkit.serve.body_errors import body_error
from mixtralkit.serve.heavy_work import HeavyWork
from mixtralkit.serve.http_errors import HttpError

Model = TypeVar("Model", bound=BaseModel)
MOST_MEMBERS = 16_384  # of all objects of a body together, far more than any request needs
_NAME = re.compile(rb'"[ \t\r\n]*:')  # the end of a member's name


async def read_body(request: Request, model: type[Model], heavy: HeavyWork) -> Model:
    """The body as `model`. Raises `HttpError` 400 for what is not JSON, or not such a request.

    Only application/json is taken: a browser sends that to another site only where that site allows it, so no page of
    another name can use a server on the machine of whoever looks at it (own_hosts.py is for pages that change names).
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if content_type != "application/json":
        raise HttpError(400, "the body must be JSON with the header Content-Type: application/json")
    return await heavy(len(body), lambda: _parse(body, model))


def _parse(body: bytes, model: type[Model]) -> Model:
    if _has_too_many_members(body):
        raise HttpError(400, f"the body has more than {MOST_MEMBERS} members of objects")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise body_error(error, model) from None


def _has_too_many_members(body: bytes) -> bool:
    """Whether to read the body would take long: nothing else of the server runs meanwhile, on whatever thread it is."""
    if body.count(b":") <= MOST_MEMBERS:
        return False
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")  # a quote within a text does not end a name
    return next(islice(_NAME.finditer(bare), MOST_MEMBERS, None), None) is not None
