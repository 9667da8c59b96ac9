"""/metrics, read by Prometheus' own parser."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.serve.rank_states import holders_LE, imbalance, told, total_rows_LE
from tests.serve.running_server import CONFIG, NAME, RunningServer, make_server, running_server

# The names that dashboards know from vLLM, as samples; histograms without their endings.
COUNTERS = (
    "prompt_tokens_total",
    "generation_tokens_total",
    "request_success_total",
    "num_preemptions_total",
    "spec_decode_num_draft_tokens_total",
    "spec_decode_num_accepted_tokens_total",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
)
HISTOGRAMS = (
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "iteration_tokens_total",
)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path) as running:
        yield running


def read(url: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples by name, without the prefix, and labels."""
    families = text_string_to_metric_families(httpx.get(url + "/metrics").text)
    return {
        (sample.name.removeprefix("mixtralkit:"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


MODEL = (("model_name", NAME),)


def test_requests_are_counted(fresh: RunningServer) -> None:
    before = read(fresh.url)
    usages = [fresh.complete(prompt=prompt, max_tokens=6)["usage"] for prompt in ("to be", "or not to be")]
    fresh.complete(max_tokens=4, n=2)
    fresh.complete(logit_bias={"2": 100})
    after = read(fresh.url)
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    extra = 3 * len(fresh.tokenizer.encode("to be"))
    assert grown["prompt_tokens_total", MODEL] == sum(usage["prompt_tokens"] for usage in usages) + extra
    assert grown["generation_tokens_total", MODEL] == 6 + 6 + 8 + 1
    for reason, count in (("length", 4), ("stop", 1), ("abort", 0), ("error", 0)):
        assert grown["request_success_total", (("finished_reason", reason), *MODEL)] == count
    assert grown["time_to_first_token_seconds_count", MODEL] == 5
    assert grown["inter_token_latency_seconds_count", MODEL] == 5 + 5 + 6
    assert grown["e2e_request_latency_seconds_count", MODEL] == 5
    assert grown["request_queue_time_seconds_count", MODEL] == 5
    assert grown["iteration_tokens_total_sum", MODEL] >= grown["prompt_tokens_total", MODEL]
    assert grown["prefix_cache_queries_total", MODEL] > 0


def test_a_first_token_counts_from_the_arrival(fresh: RunningServer) -> None:
    """So it is among those times, and never above the whole."""
    fresh.complete(max_tokens=5)
    figures = read(fresh.url)
    first = figures["time_to_first_token_seconds_sum", MODEL]
    assert 0 < figures["request_queue_time_seconds_sum", MODEL] <= first
    assert first < figures["e2e_request_latency_seconds_sum", MODEL]


def test_all_names_are_there(fresh: RunningServer) -> None:
    fresh.complete()
    fresh.until(lambda: bool(fresh.engine.snapshot().states))
    names = {name for name, _ in read(fresh.url)}
    assert {*COUNTERS, *(f"{name}_bucket" for name in HISTOGRAMS)} <= names
    assert {"expert_rows_total", "expert_load_imbalance", "dispatch_seconds_total", "rank_up"} <= names


def test_experts_and_ranks(fresh: RunningServer) -> None:
    """The figures of `running_server.states`."""
    fresh.until(lambda: bool(fresh.engine.snapshot().states))
    figures = read(fresh.url)
    rows = [figures["expert_rows_total", (("expert", str(e)), ("layer", "0"))] for e in range(CONFIG.num_experts)]
    assert rows == [30, 10, 0, 0, 10]
    assert figures["expert_load_imbalance", (("layer", "0"),)] == 3.0
    assert figures["expert_load_imbalance", (("layer", "1"),)] == 0.0
    assert figures["dispatch_seconds_total", (("rank", "0"),)] == 0.25
    assert figures["rank_up", (("rank", "0"),)] == 1
    fresh.server.fail("gone")
    assert read(fresh.url)["rank_up", (("rank", "0"),)] == 0


def test_guesses_are_counted(tmp_path: Path) -> None:
    with running_server(tmp_path, EngineLimits(drafts=4)) as server:
        server.complete(prompt="to be to be to be", max_tokens=20)
        stats = server.engine.stats
        server.until(lambda: read(server.url)["spec_decode_num_draft_tokens_total", MODEL] == stats.proposed > 0)
        assert read(server.url)["spec_decode_num_accepted_tokens_total", MODEL] == stats.accepted


def test_a_client_that_left_is_an_abort(fresh: RunningServer) -> None:
    with fresh.client() as client:
        body = {"prompt": "to be", "max_tokens": 500, "ignore_eos": True, "stream": True}
        with client.stream("POST", "/v1/completions", json=body) as response:
            next(response.iter_lines())
    aborted = ("request_success_total", (("finished_reason", "abort"), *MODEL))
    fresh.until(lambda: read(fresh.url)[aborted] == 1)
    assert read(fresh.url)["e2e_request_latency_seconds_count", MODEL] == 0  # it never had a last token


def test_while_loading_there_are_figures_too() -> None:
    with make_server() as server:
        figures = read(server.url)
    assert figures["prompt_tokens_total", MODEL] == 0
    assert ("num_requests_running", MODEL) not in figures


def test_ranks_are_put_together() -> None:
    states = [
        {"rank": 0, "rows_LE": [[1, 2, 3]], "experts": [[0, 1]]},
        {"rank": 1, "rows_LE": [[10, 20, 30]], "experts": [[1, 2]]},
    ]
    assert total_rows_LE(states) == [[11, 22, 33]]
    assert holders_LE(states) == [[[0], [0, 1], [1]]]
    assert imbalance([11, 22, 33]) == 1.5
    assert told([{}, states[1]]) == ()  # one has not told anything yet
    assert total_rows_LE([]) == holders_LE([]) == []
