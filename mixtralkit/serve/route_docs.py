"""How a route looks on the OpenAPI page: the body's schema, and errors as they are told.

FastAPI would write this from an argument of the endpoint, but then read bodies its own way, not request_body.py's.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

_REF = "#/components/schemas/{model}"
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MEGATRON_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string"}},
}


def documented(summary: str, body: type[BaseModel], *, megatron: bool = False, streams: bool = False) -> dict[str, Any]:
    """Arguments for a router's decorator. `add_schemas` later adds the schema that this refers to."""
    error = {"application/json": {"schema": _MEGATRON_ERROR if megatron else _ERROR}}
    content = {"application/json": {"schema": {"$ref": _REF.format(model=body.__name__)}}}
    return {
        "summary": summary,
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
        "responses": {
            200: {"content": {"application/json": {}, **({"text/event-stream": {}} if streams else {})}},
            "4XX": {"description": "The request cannot be answered as asked", "content": error},
            503: {"description": "Not now; Retry-After says when", "content": error},
        },
    }


def add_schemas(document: dict[str, Any], bodies: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """The OpenAPI document with the schemas of all bodies."""
    _, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=_REF)
    components = document.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **schemas["$defs"]}
    return document
