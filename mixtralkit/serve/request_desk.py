"""What the routes that generate have in common: read the body, ask the engine, answer at once or as a stream."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from mixtralkit.engine.request import QueueFull
from mixtralkit.engine.request import Request as EngineRequest
from mixtralkit.serve.come_again import ComeAgain
from mixtralkit.serve.grammar_checks import GrammarChecks
from mixtralkit.serve.heavy_work import HeavyWork
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.long_json import long_json
from mixtralkit.serve.metrics import Metrics
from mixtralkit.serve.output_hub import OutputHub
from mixtralkit.serve.outputs import Outputs
from mixtralkit.serve.request_body import read_body
from mixtralkit.serve.request_facts import RequestFacts, facts_of
from mixtralkit.serve.request_times import RequestTimes
from mixtralkit.serve.sampling_fields import IgnoredFields
from mixtralkit.serve.served_engine import ServedEngine
from mixtralkit.serve.server_state import Served, ServerState
from mixtralkit.serve.stream import Documents, EventStream, watched

Body = TypeVar("Body", bound=BaseModel)
MOST_SCORES = 2_000_000  # log probabilities of prompts in a request: some hundred megabytes


class RequestDesk:
    """`deadline` is how many seconds after its arrival a request is given up; `later` refuses those without a place."""

    def __init__(self, state: ServerState, metrics: Metrics, hub: OutputHub, deadline: float) -> None:
        self.state = state
        self.later = ComeAgain(lambda: metrics.answered)
        self.heavy = HeavyWork()
        self._grammars = GrammarChecks(self.later, deadline)
        self.ignored = IgnoredFields()
        self._metrics = metrics
        self._hub = hub
        self._deadline = deadline

    async def read(self, request: Request, model: type[Body]) -> Body:
        """The body, checked. Raises `HttpError`."""
        return await read_body(request, model, self.heavy)

    async def ask(self, request: Request, requests: Sequence[EngineRequest]) -> Outputs:
        """Give the requests, whose grammars are the same, to the engine; close what this returns.

        Raises `HttpError` and what the engine raises.
        """
        facts = facts_of(request.scope)
        await self._check(self.state.take_request(), requests, facts)
        served = self.state.take_request()  # once more: it may have begun to drain meanwhile
        outputs = Outputs(served.engine, self._hub, RequestTimes(self._metrics, facts), self._deadline)
        try:
            outputs.submit(requests)
        except QueueFull:
            outputs.close()
            raise self.later.refusal() from None
        except BaseException:
            outputs.close()
            raise
        return outputs

    async def answer(
        self,
        request: Request,
        outputs: Outputs,
        *,
        whole: Callable[[Outputs], Awaitable[dict[str, Any]]],
        stream: Callable[[Outputs], Documents] | None = None,
    ) -> Response:
        """The response: a stream of documents if there is to be one, or one document when everything is there."""
        if stream is not None:
            outputs.stream()
            return EventStream(stream(outputs), outputs)
        try:
            async with watched(request.receive, outputs):
                document = await whole(outputs)
            return Response(await long_json(document), media_type="application/json")
        finally:
            outputs.close()

    async def _check(self, served: Served, requests: Sequence[EngineRequest], facts: RequestFacts) -> None:
        for asked in requests:
            check_length(asked.prompt_tokens, served.context)
        check_scores(requests)
        grammar = requests[0].params.grammar
        if grammar is not None:
            await self._grammars(served.engine.grammars, grammar, facts.seconds)
        tokens = sum(len(asked.prompt_tokens) for asked in requests)
        await self.heavy(tokens, lambda: _check_all(served.engine, requests))

    def close(self) -> None:
        """Let the threads end."""
        self.heavy.close()
        self._grammars.close()

    def check_model(self, name: str | None) -> None:
        """Raise `HttpError` 404 for a model that is not here; none means the one that is."""
        if name not in (None, self.state.model_name):
            message = f"there is no model {name!a}; this server has {self.state.model_name!a}"
            raise HttpError(404, message, param="model", code="model_not_found")


def _check_all(engine: ServedEngine, requests: Sequence[EngineRequest]) -> None:
    for asked in requests:
        engine.check(asked)


def check_length(tokens: Sequence[int], context: int) -> None:
    """Raise `HttpError` 400 for a prompt that leaves no room for a response."""
    if len(tokens) >= context:
        raise HttpError(
            400,
            f"This model's maximum context length is {context} tokens, prompt and response together. However, the "
            f"prompt has {len(tokens)} tokens; shorten it to at most {context - 1}.",
            param="prompt",
            code="context_length_exceeded",
        )


def check_scores(requests: Sequence[EngineRequest]) -> None:
    """Raise `HttpError` 400 for more log probabilities of prompts than there should be in memory at a time."""
    scores = [(len(asked.prompt_tokens), asked.params.prompt_logprobs) for asked in requests]
    count = sum(length * (top + 1) for length, top in scores if top is not None)
    if count > MOST_SCORES:
        message = (
            f"logprobs: {count} log probabilities of the prompts' tokens are asked for, and at most {MOST_SCORES} "
            "can be; send the prompts in several requests"
        )
        raise HttpError(400, message, param="logprobs")
