"""deploy/grafana-dashboard.json asks for nothing that /metrics does not have."""

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mixtralkit.serve.metrics import PREFIX
from tests.serve.running_server import RunningServer

BOARD = json.loads((Path(__file__).parents[2] / "deploy" / "grafana-dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
OF_PROMETHEUS = {"instance", "le"}  # labels that a scrape and a histogram add
WIDTH = 24


def queries(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def variable_queries() -> list[str]:
    return [one["definition"] for one in BOARD["templating"]["list"] if one["type"] == "query"]


def names(text: str) -> set[str]:
    """The metrics in a query."""
    return set(re.findall(rf"(?:{PREFIX}|process_)\w+", text))


def labels(text: str) -> set[str]:
    """The labels in a query: those that are selected or grouped by, and those of a variable."""
    selected = re.findall(r"[{,]\s*(\w+)=", text)
    grouped = chain.from_iterable(
        re.findall(r"\w+", group) for group in re.findall(r"(?:by|on|ignoring) \(([^)]*)\)", text)
    )
    return {*selected, *grouped, *re.findall(r"label_values\(.*, (\w+)\)", text)}


@pytest.fixture(scope="module")
def samples(server: RunningServer) -> dict[str, set[str]]:
    """The names of all samples, with their labels."""
    server.complete()
    server.until(lambda: bool(server.engine.snapshot().states))
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    return {sample.name: set(sample.labels) for family in families for sample in family.samples}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_there_is(panel: dict[str, Any], samples: dict[str, set[str]]) -> None:
    for query in queries(panel):
        assert names(query)
        for name in names(query):
            assert name in samples
        assert labels(query) <= OF_PROMETHEUS.union(*(samples[name] for name in names(query)))


def test_variables_ask_for_what_there_is(samples: dict[str, set[str]]) -> None:
    for query in variable_queries():
        (name,) = names(query)
        assert labels(query) <= OF_PROMETHEUS | samples[name]


def test_every_variable_is_declared() -> None:
    declared = {one["name"] for one in BOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) - {"__rate_interval", "1"} == declared


def test_panels_have_places_of_their_own() -> None:
    """And numbers: Grafana mixes up panels that share one."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in BOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < WIDTH
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
