"""From the bytes of a body to a checked request, with one error that names the field."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from mixtralkit.serve.heavy_work import HeavyWork
from mixtralkit.serve.http_errors import HttpError

Model = TypeVar("Model", bound=BaseModel)
MOST_MEMBERS = 16_384  # of all objects of a body together, far more than any request needs
_NAME = re.compile(rb'"[ \t\r\n]*:')  # the end of a member's name
_LONGEST_NAME = 64


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
        details = error.errors(include_url=False, include_input=False, include_context=False)
        raise _as_http_error(details, model) from None


def _has_too_many_members(body: bytes) -> bool:
    """Whether to read the body would take long: nothing else of the server runs meanwhile, on whatever thread it is."""
    if body.count(b":") <= MOST_MEMBERS:
        return False
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")  # a quote within a text does not end a name
    return next(islice(_NAME.finditer(bare), MOST_MEMBERS, None), None) is not None


def _as_http_error(details: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> HttpError:
    """The first thing that is wrong. What the client sent is not repeated: it may be long, or a secret."""
    if not details[0]["loc"]:
        return HttpError(400, _problem(details[0]))
    name = str(details[0]["loc"][0])
    problems = [detail for detail in details if detail["loc"][0] == name]
    others = [detail for detail in problems if not detail["type"].endswith("_type")]
    known = model.model_fields.get(name)
    field = name[:_LONGEST_NAME]  # the client may have chosen it
    if len(problems) > 1 and not others and known is not None and known.description:
        return HttpError(400, f"{field} must be {known.description}", param=field)
    return HttpError(400, f"{field}: {_problem((others or problems)[0])}", param=field)


def _problem(detail: Mapping[str, Any]) -> str:
    """Such as "at [2].content: Input should be a valid string"."""
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part[:_LONGEST_NAME]}"
        for part in detail["loc"][1:]
        if _is_told(part)
    )
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"at {place}: {message}" if place else message


def _step(part: int | str) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{part[:_LONGEST_NAME]}"


def _is_told(part: int | str) -> bool:
    """Whether part of a place is an index or a field, rather than pydantic's name for an alternative."""
    return isinstance(part, int) or (part.isidentifier() and part.islower() and part not in ("str", "int", "float"))
