"""python -m acceptance.prometheus_reader URL MODEL: /metrics as prometheus_client's own parser reads it.

It runs in that package's environment. `NAMES` are those that dashboards know, and this project's own.
"""

import json
import sys
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from acceptance.finding import checked, expect

PREFIX = "mixtralkit:"
NAMES = {
    "num_requests_running": (),
    "num_requests_waiting": (),
    "kv_cache_usage_perc": (),
    "prompt_tokens_total": (),
    "generation_tokens_total": (),
    "request_success_total": ("finished_reason",),
    "num_preemptions_total": (),
    "prefix_cache_queries_total": (),
    "prefix_cache_hits_total": (),
    "time_to_first_token_seconds_bucket": ("le",),
    "inter_token_latency_seconds_bucket": ("le",),
    "e2e_request_latency_seconds_bucket": ("le",),
    "request_queue_time_seconds_bucket": ("le",),
    "iteration_tokens_total_bucket": ("le",),
    "expert_rows_total": ("layer", "expert"),
    "expert_load_imbalance": ("layer",),
    "rank_up": ("rank",),
}
TOKENS = 9
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Server:
    """Where to look, and the name of the model."""

    url: str
    model: str

    def samples(self) -> Samples:
        """All of mixtralkit's, by name and labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
        return {
            (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if sample.name.startswith(PREFIX)
        }

    def complete(self) -> int:
        """Have `TOKENS` tokens generated; returns how many the prompt has."""
        body = {"prompt": "JULIET:\n", "max_tokens": TOKENS, "ignore_eos": True}
        request = urllib.request.Request(
            f"{self.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(json.load(response)["usage"]["prompt_tokens"])


def names(server: Server) -> str:
    """Every name is there, with its labels."""
    found: dict[str, set[str]] = {}
    for name, labels in server.samples():
        found.setdefault(name, set()).update(key for key, _ in labels)
    missing = [name for name, labels in NAMES.items() if not {*labels} <= found.get(name, set())]
    missing += [] if any(name.startswith("dispatch_seconds") for name in found) else ["dispatch_seconds"]
    expect(not missing, f"missing: {missing}")
    return f"{len(found)} names"


def counts(server: Server) -> str:
    """A request adds exactly its own tokens, first token and end."""
    before = server.samples()
    prompt = server.complete()
    after = server.samples()

    def added(name: str, **labels: str) -> float:
        wanted = {*labels.items()}
        return sum(value - before.get(key, 0) for key, value in after.items() if key[0] == name and wanted <= key[1])

    found = {
        "prompt_tokens_total": added("prompt_tokens_total"),
        "generation_tokens_total": added("generation_tokens_total"),
        "request_success_total": added("request_success_total", finished_reason="length"),
        "time_to_first_token_seconds_count": added("time_to_first_token_seconds_count"),
        "e2e_request_latency_seconds_count": added("e2e_request_latency_seconds_count"),
        "inter_token_latency_seconds_count": added("inter_token_latency_seconds_count"),
    }
    expect(list(found.values()) == [prompt, TOKENS, 1, 1, 1, TOKENS - 1], f"{found}")
    return f"{prompt} + {TOKENS} tokens of a request"


def ranks(server: Server) -> str:
    """All ranks are up, and experts have been given rows."""
    samples = server.samples()
    up = [value for (name, _), value in samples.items() if name == "rank_up"]
    expect(up and set(up) == {1.0}, f"rank_up {up}")
    rows = [value for (name, _), value in samples.items() if name == "expert_rows_total"]
    expect(min(rows) > 0, "an expert has had no row")
    return f"{len(up)} up, {len(rows)} experts, {sum(rows):.0f} rows"


CHECKS = {"names": names, "counts": counts, "ranks and experts": ranks}

if __name__ == "__main__":
    for finding in checked(CHECKS, Server(*sys.argv[1:])):
        print(finding.as_json(), flush=True)
