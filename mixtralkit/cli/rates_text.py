"""The rates that predictions go by, as JSON and for people."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mixtralkit.moe.placement.cost import Rates
from mixtralkit.moe.strategies import Strategies
from mixtralkit.sizes import size

_GIVEN = {"network_bandwidth": "network_bandwidth", "compute": "compute_rate"}  # by field of Rates, that of Strategies


def rates_document(rates: Rates, strategies: Strategies) -> dict[str, Any]:
    """By field; None for the bandwidth of links that there are none of. `given` says which the user gave, and how."""
    known = {name: value if math.isfinite(value) else None for name, value in asdict(rates).items()}
    given = {name: strategies.source(field) for name, field in _GIVEN.items() if strategies.given(field)}
    return {**known, "given": given}


def rates_lines(way: str, rates: Mapping[str, Any]) -> list[str]:
    """A line a kind of link and one for the experts, measured when rows travel that `way`."""
    given = rates["given"]
    lines = [
        f"{what} {size(int(rates[link + '_bandwidth']))}/s{_by(given, link + '_bandwidth')}, "
        f"{rates[link + '_latency'] * 1e6:,.0f} us a message"
        for link, what in (("node", "within a node"), ("network", "between nodes"))
        if rates[link + "_bandwidth"] is not None
    ]
    compute, weights = rates["compute"], rates["weight_bandwidth"]
    if compute is not None and weights is not None:
        lines.append(f"experts {compute / 1e9:,.3g} GFLOP/s{_by(given, 'compute')}, weights {size(int(weights))}/s")
    return [f"{way:<12} {line}" for line in lines]


def _by(given: Mapping[str, str], name: str) -> str:
    return f" ({given[name]})" if name in given else ""
