"""Whether the process answers, whether it serves, and what Prometheus is told."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from mixtralkit.serve.http_errors import RETRY_SECONDS
from mixtralkit.serve.metrics import Metrics
from mixtralkit.serve.server_state import ServerState

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"  # the text format that generate_latest writes


def health_routes(state: ServerState, metrics: Metrics) -> APIRouter:
    """Ready means: the model is loaded, new requests are taken, and all ranks took part in a step lately."""
    router = APIRouter(tags=["health"])

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @router.get("/health", summary="Whether requests are served", responses={503: {"description": "Not now"}})
    @router.get("/health/ready", summary="Whether requests are served", responses={503: {"description": "Not now"}})
    async def ready() -> Response:
        phase, reason = state.now()
        body: dict[str, Any] = {"status": phase, "reason": reason, "loaded": state.loaded, "model": state.model_name}
        if phase == "ready":
            return JSONResponse(body)
        return JSONResponse(body, 503, headers={"retry-after": str(RETRY_SECONDS)})

    @router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def metrics_text() -> Response:
        return Response(metrics.text(), media_type=PROMETHEUS)

    return router
