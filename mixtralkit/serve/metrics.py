"""What Prometheus is told: the names that vLLM's dashboards know, with this project's prefix, and the experts' own."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mixtralkit.engine.snapshot import StepFacts
from mixtralkit.serve.expert_metrics import expert_families
from mixtralkit.serve.rank_states import told
from mixtralkit.serve.server_state import ServerState

PREFIX = "mixtralkit:"
REASONS = ("stop", "length", "abort", "error")
ANSWERED = ("stop", "length")  # those of responses that came to their end
_MODEL = ("model_name",)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 10)
_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


class Metrics:
    """One server's figures. The event loop counts requests, the engine's thread tells `on_step`, anyone may `text`."""

    def __init__(self, state: ServerState) -> None:
        self._registry = CollectorRegistry()
        self._model_name = state.model_name
        self.first_token = self._histogram("time_to_first_token_seconds", "From the request's arrival", _SECONDS)
        self.between_tokens = self._histogram("inter_token_latency_seconds", "Between two outputs", _SHORT_SECONDS)
        self._whole = self._histogram("e2e_request_latency_seconds", "From arrival to the last token", _SECONDS)
        self._queued = self._histogram("request_queue_time_seconds", "From submission to a place", _SECONDS)
        self._step_tokens = self._histogram("iteration_tokens_total", "Tokens fed to the model in a step", _TOKENS)
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.guessed_tokens = 0
        self.right_guesses = 0
        self.answered = 0  # HTTP requests, with all their responses
        self.ended = Counter(dict.fromkeys(REASONS, 0))
        self._registry.register(_Figures(state, self))
        ProcessCollector(registry=self._registry)

    def finished(self, reason: str, seconds: float) -> None:
        """A response has ended after so many seconds, for one of `REASONS`."""
        self.ended[reason] += 1
        if reason in ANSWERED:
            self._whole.observe(seconds)

    def on_step(self, facts: StepFacts) -> None:
        """The engine has done a step."""
        self._step_tokens.observe(sum(facts.tokens_W))
        self.guessed_tokens += sum(result.proposed for result in facts.results)
        self.right_guesses += sum(result.accepted for result in facts.results)
        for seconds in facts.queue_seconds:
            self._queued.observe(seconds)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(PREFIX + name, text, _MODEL, registry=self._registry, buckets=buckets)
        return histogram.labels(self._model_name)


class _Figures(Collector):
    """What is looked up when somebody asks, rather than counted."""

    def __init__(self, state: ServerState, metrics: Metrics) -> None:
        self._state = state
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        yield self._counter("prompt_tokens", "Tokens of the prompts", metrics.prompt_tokens)
        yield self._counter("generation_tokens", "Tokens generated", metrics.generated_tokens)
        yield self._counter("spec_decode_num_draft_tokens", "Tokens guessed", metrics.guessed_tokens)
        yield self._counter("spec_decode_num_accepted_tokens", "Guesses that were right", metrics.right_guesses)
        yield self._ended()
        served = self._state.loaded_model
        if served is None:
            return
        snapshot = served.engine.snapshot()
        yield self._gauge("num_requests_running", "Requests that are worked on", snapshot.running)
        yield self._gauge("num_requests_waiting", "Requests in the queue", snapshot.waiting)
        yield self._gauge("kv_cache_usage_perc", "Part of the KV cache in use, 0 to 1", snapshot.kv_usage)
        yield self._counter("num_preemptions", "Requests that lost their place", snapshot.preemptions)
        yield self._counter("prefix_cache_queries", "Prompt tokens looked up", snapshot.prefix_queries)
        yield self._counter("prefix_cache_hits", "Prompt tokens found in the cache", snapshot.prefix_hits)
        alive = self._state.now()[0] not in ("stuck", "failed")
        yield from expert_families(PREFIX, told(snapshot.states), alive=alive)

    def _counter(self, name: str, text: str, value: float) -> CounterMetricFamily:
        family = CounterMetricFamily(PREFIX + name, text, labels=_MODEL)
        family.add_metric([self._state.model_name], value)
        return family

    def _gauge(self, name: str, text: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(PREFIX + name, text, labels=_MODEL)
        family.add_metric([self._state.model_name], value)
        return family

    def _ended(self) -> CounterMetricFamily:
        family = CounterMetricFamily(
            PREFIX + "request_success", "Requests that have ended", labels=(*_MODEL, "finished_reason")
        )
        for reason, count in self._metrics.ended.items():
            family.add_metric([self._state.model_name, reason], count)
        return family
