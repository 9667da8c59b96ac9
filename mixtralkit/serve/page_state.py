"""GET /page/state.json: everything that the page's second tab shows. Totals only grow, so rates are differences."""

from typing import Any

from fastapi import APIRouter

from mixtralkit.engine.snapshot import Snapshot
from mixtralkit.serve.metrics import Metrics
from mixtralkit.serve.rank_states import States, holders_LE, imbalance, told, total_rows_LE
from mixtralkit.serve.server_state import ServerState

NOTHING = Snapshot(
    running=0,
    waiting=0,
    kv_usage=0.0,
    preemptions=0,
    prefix_queries=0,
    prefix_hits=0,
    steps=0,
    last_step_seconds=0.0,
    seconds_since_step=0.0,
    states=(),
)


def page_state_routes(state: ServerState, metrics: Metrics) -> APIRouter:
    """The route of the page's figures."""
    router = APIRouter(include_in_schema=False)

    @router.get("/page/state.json")
    async def page_state() -> dict[str, Any]:
        return page_document(state, metrics)

    return router


def page_document(state: ServerState, metrics: Metrics) -> dict[str, Any]:
    """The figures as JSON; while loading there are no layers and no ranks."""
    phase, reason = state.now()
    served = state.loaded_model
    snapshot = served.engine.snapshot() if served else NOTHING
    return {
        "model": state.model_name,
        "state": phase,
        "reason": reason,
        "loaded": state.loaded,
        "uptime_seconds": round(state.uptime, 3),
        "context": served.context if served else 0,
        "running": snapshot.running,
        "waiting": snapshot.waiting,
        "queue_limit": state.queue_limit,
        "kv_usage": snapshot.kv_usage,
        "preemptions": snapshot.preemptions,
        "prefix_queries": snapshot.prefix_queries,
        "prefix_hits": snapshot.prefix_hits,
        "prompt_tokens": metrics.prompt_tokens,
        "generated_tokens": metrics.generated_tokens,
        "steps": snapshot.steps,
        "last_step_seconds": snapshot.last_step_seconds,
        **_experts(told(snapshot.states)),
        "ranks": _ranks(told(snapshot.states), snapshot, up=phase not in ("stuck", "failed")),
    }


def _experts(states: States) -> dict[str, Any]:
    rows_LE = total_rows_LE(states)
    return {
        "num_layers": len(rows_LE),
        "num_experts": len(rows_LE[0]) if rows_LE else 0,
        "rows_LE": rows_LE,
        "imbalance_L": [round(imbalance(rows_E), 4) for rows_E in rows_LE],
        "holders_LE": holders_LE(states),
    }


def _ranks(states: States, snapshot: Snapshot, *, up: bool) -> list[dict[str, Any]]:
    return [
        {
            "rank": state["rank"],
            "host": state["host"],
            "up": up,
            "seconds_since_step": round(snapshot.seconds_since_step, 3),
            "rows": state["rows"],
            "tokens_rows": sum(map(sum, state["rows_LE"])),
            "dispatch_seconds": round(state["dispatch_seconds"], 6),
        }
        for state in states
    ]
