"""From the bytes of a body to a checked request, with one error that names the field."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from mixtralkit.serve.heavy_work import HeavyWork
from mixtralkit.serve.http_errors import HttpError

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model], heavy: HeavyWork) -> Model:
    """The body as `model`. Raises `HttpError` 400 for what is not JSON, or not such a request.

    Only application/json is taken: a browser sends that to another site only where that site allows it, so no page
    somebody happens to look at can use a server on their own machine.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if content_type != "application/json":
        raise HttpError(400, "the body must be JSON with the header Content-Type: application/json")
    return await heavy(len(body), lambda: _parse(body, model))


def _parse(body: bytes, model: type[Model]) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        raise _as_http_error(details, model) from None


def _as_http_error(details: Sequence[Mapping[str, Any]], model: type[BaseModel]) -> HttpError:
    """The first thing that is wrong. What the client sent is not repeated: it may be long, or a secret."""
    if not details[0]["loc"]:
        return HttpError(400, _problem(details[0]))
    field = str(details[0]["loc"][0])
    problems = [detail for detail in details if detail["loc"][0] == field]
    others = [detail for detail in problems if not detail["type"].endswith("_type")]
    known = model.model_fields.get(field)
    if len(problems) > 1 and not others and known is not None and known.description:
        return HttpError(400, f"{field} must be {known.description}", param=field)
    return HttpError(400, f"{field}: {_problem((others or problems)[0])}", param=field)


def _problem(detail: Mapping[str, Any]) -> str:
    """Such as "at [2].content: Input should be a valid string"."""
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"][1:] if _is_told(part)
    )
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"at {place}: {message}" if place else message


def _is_told(part: int | str) -> bool:
    """Whether part of a place is an index or a field, rather than pydantic's name for an alternative."""
    return isinstance(part, int) or (part.isidentifier() and part.islower() and part not in ("str", "int", "float"))
