"""What is wrong with a body, in one sentence: which field, what it is, and what it must be.

Such as "messages[0].content[2].text is 5; it must be a text".
"""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from mixtralkit.serve.http_errors import HttpError

_LONGEST_NAME = 64
# By pydantic's names of what can be wrong, with what it tells of each.
_MUST_BE = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
}
_MUST_HAVE = {
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
    "string_too_long": "at most {max_length}",
}
_Problem = Mapping[str, Any]  # as pydantic tells it


def body_error(error: ValidationError, model: type[BaseModel]) -> HttpError:
    """The first thing that is wrong. Of what the client sent no more is repeated than shows which value is meant."""
    problems: Sequence[_Problem] = error.errors(include_url=False)
    if not problems[0]["loc"]:
        return HttpError(400, _of_body(problems[0]))
    name = str(problems[0]["loc"][0])
    field = name[:_LONGEST_NAME]  # the client may have chosen it
    known = model.model_fields.get(name)
    here = [problem for problem in problems if problem["loc"][0] == name]
    return HttpError(400, _of_field(here, known.description if known else None), param=field)


def _of_body(problem: _Problem) -> str:
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']}"
    return "the body must be a JSON object" if problem["type"] == "model_type" else _said(problem)


def _of_field(problems: Sequence[_Problem], description: str | None) -> str:
    """The sentence for a field; pydantic has several problems where it may be of several kinds and is of none."""
    others = [problem for problem in problems if not problem["type"].endswith("_type")]
    if others:
        return _sentence(others[0], _allowed(others[0]))
    if len(problems) > 1 and description:
        return _sentence(problems[0], description)
    deepest = max(problems, key=lambda problem: len(problem["loc"]))
    place = _place(deepest)
    kinds = [_allowed(problem) for problem in problems if _place(problem) == place]
    return _sentence(deepest, " or ".join(dict.fromkeys(kinds)))


def _sentence(problem: _Problem, allowed: str) -> str:
    place, given = _place(problem), problem["input"]
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{place} is not known here"
    if problem["type"] in _MUST_HAVE:
        noun = "characters" if isinstance(given, str) else "entries"
        return f"{place} has {len(given)} {noun}; it must have {allowed}"
    return f"{place} is {reprlib.repr(given)}; it must be {allowed}" if allowed else f"{place}: {_said(problem)}"


def _allowed(problem: _Problem) -> str:
    """Such as "0 or more"; nothing where the problem's own words say it."""
    told = problem.get("ctx", {})
    words = (_MUST_BE | _MUST_HAVE).get(problem["type"], "")
    return words.format(**{name: _short(value) for name, value in told.items()})


def _short(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _said(problem: _Problem) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


def _place(problem: _Problem) -> str:
    """Such as "messages[2].content"."""
    name, *parts = problem["loc"]
    return str(name)[:_LONGEST_NAME] + "".join(map(_step, filter(_is_told, parts)))


def _step(part: int | str) -> str:
    return f"[{part}]" if isinstance(part, int) or part.isdecimal() else f".{part[:_LONGEST_NAME]}"


def _is_told(part: int | str) -> bool:
    """Whether part of a place is an index or a name, rather than pydantic's name for an alternative."""
    if isinstance(part, int) or part.isdecimal():
        return True
    return part.isidentifier() and part.islower() and part not in ("str", "int", "float")
