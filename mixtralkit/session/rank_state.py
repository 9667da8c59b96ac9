"""What a rank tells of itself while the engine runs, for metrics and the page that shows the machine at work."""

import socket
from typing import Any

from mixtralkit.dist.launch import Group
from mixtralkit.moe.steering_setup import Spread, Steered


def rank_state(group: Group, spread: Spread, steered: Steered) -> dict[str, Any]:
    """As JSON, since the start: rows of this rank's tokens by layer and expert, rows that its experts computed, and
    seconds of dispatch and combine; and the experts that it holds now, by layer.
    """
    return {
        "rank": group.rank,
        "host": socket.gethostname(),
        "rows_LE": spread.load.rows_LE.tolist(),
        "rows": spread.timeline.rows_computed,
        "experts": [list(placement.experts_of(group.rank)) for placement in steered.steering.placements],
        "dispatch_seconds": spread.timeline.communication,
    }
