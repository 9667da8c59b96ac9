"""What the routes that generate have in common: read the body, ask the engine, answer at once or as a stream."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mixtralkit.engine.request import QueueFull
from mixtralkit.engine.request import Request as EngineRequest
from mixtralkit.serve.come_again import ComeAgain
from mixtralkit.serve.heavy_work import LIGHT_BYTES, HeavyWork
from mixtralkit.serve.http_errors import HttpError
from mixtralkit.serve.metrics import Metrics
from mixtralkit.serve.openai_schema import SamplingFields
from mixtralkit.serve.output_hub import OutputHub
from mixtralkit.serve.outputs import Outputs
from mixtralkit.serve.request_body import read_body
from mixtralkit.serve.request_facts import facts_of
from mixtralkit.serve.request_times import RequestTimes
from mixtralkit.serve.sampling_fields import IgnoredFields
from mixtralkit.serve.server_state import Served, ServerState
from mixtralkit.serve.stream import Documents, EventStream, watched

Body = TypeVar("Body", bound=BaseModel)


class RequestDesk:
    """`deadline` is how many seconds after its arrival a request is given up."""

    def __init__(self, state: ServerState, metrics: Metrics, hub: OutputHub, later: ComeAgain, deadline: float) -> None:
        self.state = state
        self.heavy = HeavyWork()
        self.ignored = IgnoredFields()
        self._metrics = metrics
        self._hub = hub
        self._later = later
        self._deadline = deadline

    async def read(self, request: Request, model: type[Body]) -> Body:
        """The body, checked. Raises `HttpError`."""
        return await read_body(request, model, self.heavy)

    async def ask(self, request: Request, requests: Sequence[EngineRequest]) -> Outputs:
        """Give the requests to the engine; close what this returns. Raises `HttpError` and what the engine raises."""
        served = self.state.take_request()  # once more: it may have begun to drain while the body came
        self._check(served, requests)
        facts = facts_of(request.scope)
        outputs = Outputs(served.engine, self._hub, RequestTimes(self._metrics, facts), self._deadline)
        # A grammar is compiled to be checked, which may take long.
        nbytes = LIGHT_BYTES + 1 if any(asked.params.grammar for asked in requests) else 0
        try:
            await self.heavy(nbytes, lambda: outputs.submit(requests))
        except QueueFull:
            outputs.close()
            raise self._later.refusal() from None
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
            return EventStream(stream(outputs), outputs)
        try:
            async with watched(request.receive, outputs):
                return JSONResponse(await whole(outputs))
        finally:
            outputs.close()

    def _check(self, served: Served, requests: Sequence[EngineRequest]) -> None:
        if len(requests) > max(self.state.queue_limit, 1):
            raise HttpError(
                400,
                f"{len(requests)} responses are asked for at once, and only {self.state.queue_limit} can wait; "
                "send several smaller requests",
            )
        for asked in requests:
            check_length(asked.prompt_tokens, served.context)

    def check_model(self, fields: SamplingFields) -> None:
        """Raise `HttpError` 404 for a model that is not here; none means the one that is."""
        if fields.model not in (None, self.state.model_name):
            message = f"there is no model {fields.model!a}; this server has {self.state.model_name!a}"
            raise HttpError(404, message, param="model", code="model_not_found")


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
