"""Runs one rank's share of a step: builds the batch, calls the model, samples."""

from collections.abc import Callable, Sequence

import torch

from mixtralkit.engine.decode_graphs import DecodeGraphs
from mixtralkit.engine.decode_inputs import NextToken
from mixtralkit.engine.device_sampling import rows_of_feeds
from mixtralkit.engine.largest import BadLogits
from mixtralkit.engine.running import Feed, Rows, RunningRequest
from mixtralkit.engine.sampling import Sampler
from mixtralkit.engine.step_plan import StepPlan, Work, WorkResult
from mixtralkit.engine.vocabulary import Vocabulary
from mixtralkit.errors import RequestError
from mixtralkit.model.batch import make_batch
from mixtralkit.model.kv_cache import KVCache
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.layer import MoELayer
from mixtralkit.ops.upload import upload


class Runner:
    """Holds the KV cache of rank `rank` and the requests that it works on, of at most `context` tokens each.

    With `graphs`, steps that feed one token of each request are recorded ones; `on_launched` is called when all of such
    a step has been given to the device.
    """

    def __init__(
        self,
        model: Transformer,
        cache: KVCache,
        vocabulary: Vocabulary,
        *,
        rank: int,
        context: int,
        graphs: DecodeGraphs | None = None,
        on_launched: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._graphs, self._on_launched = graphs, on_launched
        self._cache = cache
        self._vocabulary = vocabulary
        self._rank = rank
        self._context = context
        self._device = model.tok_embeddings.weight.device
        self._requests: dict[int, RunningRequest] = {}
        layers = (block.feed_forward for block in model.layers)
        self._layers = [layer for layer in layers if isinstance(layer, MoELayer)]

    def prepare(self, plan: StepPlan) -> None:
        """Forget the requests that are dropped, and take in those that come to this rank."""
        for number in plan.dropped:
            self._requests.pop(number, None)
        for admission in plan.admissions:
            if admission.rank == self._rank:
                sampler = Sampler(
                    admission.params, admission.prompt_tokens, admission.output_tokens, vocabulary=self._vocabulary
                )
                self._requests[admission.number] = RunningRequest(
                    admission, sampler, context=self._context, eos_id=self._vocabulary.eos_id
                )

    def has_recorded(self, plan: StepPlan) -> bool:
        """Whether a step is one of the recorded ones; the same on all ranks."""
        most = plan.most_single_tokens
        return self._graphs is not None and most is not None and most <= self._graphs.most

    def run(self, plan: StepPlan) -> list[WorkResult]:
        """Run this rank's items; those of requests that have ended meanwhile are passed over.

        With none of them, this rank still takes part in every layer. A request that cannot go on ends with an error.
        """
        work = plan.work[self._rank]
        requests = [self._requests[item.number] for item in work if item.number in self._requests]
        items = [item for item in work if item.number in self._requests]
        feeds = [request.feed(item) for request, item in zip(requests, items, strict=True)]
        if self._graphs is not None and plan.most_single_tokens is not None and self.has_recorded(plan):
            logits_RV = self._recorded_logits(self._graphs, requests, feeds, plan.most_single_tokens)
            self._on_launched()
        else:
            logits_RV = self._logits(requests, feeds)
        rows = rows_of_feeds(logits_RV, requests, feeds)
        if self._graphs is not None:
            self._graphs.check()
        for layer in self._layers:
            layer.check()
        results = [self._take(request, feed, own) for request, feed, own in zip(requests, feeds, rows, strict=True)]
        for result in results:
            if result.finish or result.error:
                del self._requests[result.number]
        return results

    def give_up(self, work: Sequence[Work], error: str) -> list[WorkResult]:
        """End the requests of these items with an error, as their step could not be run."""
        gone = [item.number for item in work if self._requests.pop(item.number, None) is not None]
        return [WorkResult(number=number, fed=0, error=error) for number in gone]

    def _logits(self, requests: Sequence[RunningRequest], feeds: Sequence[Feed]) -> torch.Tensor:
        """The wanted logits of all feeds, one feed's after the other's, float32 `[R, V]`, where the model is."""
        rows: list[int] = []
        end = 0
        for feed in feeds:
            rows += range(end + feed.first_logits, end + len(feed.tokens))
            end += len(feed.tokens)
        batch = make_batch(
            [feed.tokens for feed in feeds],
            [feed.start for feed in feeds],
            [request.table for request in requests],
            self._device,
            logit_rows=rows,
        )
        return self._model.next_token_logits(batch, self._cache)

    @staticmethod
    def _recorded_logits(
        graphs: DecodeGraphs, requests: Sequence[RunningRequest], feeds: Sequence[Feed], most: int
    ) -> torch.Tensor:
        """What `_logits` gives, of feeds of one token each."""
        pairs = zip(requests, feeds, strict=True)
        logits_BV = graphs.logits([NextToken(feed.tokens[0], feed.start, each.table) for each, feed in pairs], most)
        wanted = [row for row, feed in enumerate(feeds) if feed.rows]
        if len(wanted) == len(feeds):
            return logits_BV
        return logits_BV.index_select(0, upload(torch.tensor(wanted, dtype=torch.int64), logits_BV.device))

    @staticmethod
    def _take(request: RunningRequest, feed: Feed, rows: Rows) -> WorkResult:
        try:
            return request.take(feed, rows)
        except RequestError as error:
            refused = not isinstance(error, BadLogits)
            return WorkResult(number=request.number, fed=feed.start, error=str(error), refused=refused)
