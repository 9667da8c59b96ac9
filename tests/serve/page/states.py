"""States of a machine for the page's second tab, in the form of GET /page/state.json."""

from typing import Any


def machine_state(
    rows_LE: list[list[int]], holders_LE: list[list[list[int]]], uptime: float, **others: Any
) -> dict[str, Any]:
    """A ready machine whose experts have computed `rows_LE`; `others` replaces any field."""
    world_size = 1 + max(rank for holders_E in holders_LE for holders in holders_E for rank in holders)
    rows = sum(map(sum, rows_LE))
    state = {
        "model": "tiny",
        "state": "ready",
        "reason": None,
        "loaded": 1.0,
        "uptime_seconds": uptime,
        "context": 4096,
        "running": 3,
        "waiting": 1,
        "queue_limit": 256,
        "kv_usage": 0.132,
        "preemptions": 2,
        "prefix_queries": 1000,
        "prefix_hits": 250,
        "prompt_tokens": 4000,
        "generated_tokens": 600,
        "steps": 511,
        "last_step_seconds": 0.0121,
        "num_layers": len(rows_LE),
        "num_experts": len(rows_LE[0]),
        "rows_LE": rows_LE,
        "imbalance_L": [max(rows_E) * len(rows_E) / max(1, sum(rows_E)) for rows_E in rows_LE],
        "holders_LE": holders_LE,
        "ranks": [
            {
                "rank": rank,
                "host": f"node{rank // 2}",
                "up": True,
                "seconds_since_step": 0.02,
                "rows": rows // world_size,
                "tokens_rows": rows // world_size,
                "dispatch_seconds": uptime / 10,
            }
            for rank in range(world_size)
        ],
    }
    return {**state, **others}
