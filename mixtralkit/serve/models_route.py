"""GET /v1/models: the one model that is served."""

from typing import Any

from fastapi import APIRouter

from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.server_state import ServerState


def model_routes(state: ServerState) -> APIRouter:
    """The routes; they answer while loading too, as its name is known then."""
    router = APIRouter(tags=["OpenAI"])

    @router.get("/v1/models", summary="The model that is served")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(state)]}

    @router.get("/v1/models/{name:path}", summary="One model", responses={404: {"description": "Another name"}})
    async def model(name: str) -> dict[str, Any]:
        if name != state.model_name:
            message = f"there is no model {name!a}; this server has {state.model_name!a}"
            raise HttpError(404, message, param="model", code="model_not_found")
        return _model(state)

    return router


def _model(state: ServerState) -> dict[str, Any]:
    context = {} if state.loaded_model is None else {"max_model_len": state.loaded_model.context}
    return {"id": state.model_name, "object": "model", "created": state.created, "owned_by": "mixtralkit", **context}
