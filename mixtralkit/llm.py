"""`LLM`: a checkpoint with its engine, from Python: in a notebook, a script, or a script under torchrun."""

import asyncio
import atexit
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import torch

from mixtralkit.dist.launch import LaunchOptions, start_group
from mixtralkit.dtypes import weights_dtype
from mixtralkit.engine.engine_limits import STEP_TOKENS, EngineLimits
from mixtralkit.engine.output import Output
from mixtralkit.engine.request import Completion, SamplingParams
from mixtralkit.engine.whole_responses import WholeResponses
from mixtralkit.errors import RankFailure, RequestError
from mixtralkit.moe.strategies import Strategies
from mixtralkit.ops.quantized_weight import quant_kind
from mixtralkit.prompt_requests import Prompt, request_of, requests_of
from mixtralkit.session.session import Session, open_session
from mixtralkit.session.settings import OnProgress, SessionSettings

_LAST_WORDS = 5.0  # seconds until ranks that have failed know whose fault it was


class LLM:
    """The checkpoint in the folder `model_weights`, with its experts spread over all ranks.

        with LLM("demo/shakespeare") as llm:
            for answer in llm.generate("ROMEO:", SamplingParams(max_tokens=40)):
                print(answer.text)

    Under torchrun every rank makes one and calls the same methods. Rank 0 is given the answers, the others nothing:
    they compute in the background until rank 0 closes.

    `dtype` is one of torch's or its name; None and "auto" are the checkpoint's own. `device` is "auto", "cpu" or
    "cuda", `quantize` "int8", "int4" or "fp8". The engine works on `batch_size` requests a rank at a time, has room for
    `kv_tokens` tokens (None: a share of the free memory), and guesses up to `drafts` tokens a step. `dispatch` and
    `strategies` are how tokens travel and what is done about it. `timeout` seconds is how long ranks wait for each
    other; `on_progress` is told the bytes loaded, of how many. Raises the errors of the checkpoint, the tokenizer, the
    placement and the launch, and `UsageError` for an argument that is not possible.

    `rank` is which of the ranks this is.
    """

    def __init__(
        self,
        model_weights: str | Path,
        *,
        tokenizer: str | Path | None = None,
        dtype: torch.dtype | str | None = None,
        device: str = "auto",
        quantize: str | None = None,
        dispatch: str = "auto",
        strategies: Strategies | None = None,
        batch_size: int = 8,
        kv_tokens: int | None = None,
        drafts: int = 0,
        timeout: float = 60.0,
        on_progress: OnProgress = lambda done, total: None,
    ) -> None:
        settings = SessionSettings(
            model_weights=Path(model_weights),
            tokenizer=None if tokenizer is None else Path(tokenizer),
            dtype=weights_dtype(dtype),
            quantize=None if quantize is None else quant_kind(quantize),
            dispatch=dispatch,
            strategies=strategies or Strategies(),
            limits=EngineLimits(
                batch_size=batch_size,
                step_tokens=max(STEP_TOKENS, batch_size),
                kv_tokens=kv_tokens,
                drafts=drafts,
            ),
        )
        launch = LaunchOptions(device=device, collective_timeout=timeout, join_timeout=timeout)
        self._failure: Exception | None = None
        self._closed = False
        opened: Future[Session] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(launch, settings, on_progress, opened), name="mixtralkit", daemon=True
        )
        self._thread.start()
        session = opened.result()
        self._engine, self.tokenizer, self.rank = session.engine, session.tokenizer, session.group.rank
        atexit.register(self.close)

    def generate(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> list[Completion]:
        """A completion for each prompt, in order; on ranks other than 0 none.

        `params` is for all prompts, prompt i then drawing with the seed `params.seed` + i, or one for each.
        Raises `RequestError` before any work when a request cannot be served, `RankFailure` when a rank is lost.
        """
        requests = requests_of(self.tokenizer, prompts, params)
        if self.rank != 0:
            return []
        for request in requests:
            self._engine.check(request)
        whole = WholeResponses()
        numbers = whole.submit_all(requests, self._engine.submit)
        try:
            whole.wait()
        except BaseException:
            for number in numbers:
                self._engine.cancel(number)
            raise
        try:
            return whole.completions()
        except RequestError:
            self._check_ranks()
            raise

    async def stream(self, prompt: Prompt, params: SamplingParams | None = None) -> AsyncIterator[Output]:
        """What is new of the response, as it comes; on ranks other than 0 nothing.

        Several may be awaited at the same time. One that is left early is cancelled. Raises as `generate` does.
        """
        request = request_of(self.tokenizer, prompt, params)
        if self.rank != 0:
            return
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[Output] = asyncio.Queue()

        def take(output: Output) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(outputs.put_nowait, output)

        number = await asyncio.to_thread(self._engine.submit, request, take)
        try:
            finished = False
            while not finished:
                output = await outputs.get()
                if output.error is not None:
                    await asyncio.to_thread(self._check_ranks)
                    raise RequestError(output.error)
                finished = output.finish_reason is not None
                yield output
        finally:
            self._engine.cancel(number)

    def close(self) -> None:
        """Give everything back when all requests have ended, on all ranks together. Harmless when called again.

        Raises what ended the engine on this rank, or `RankFailure` naming the rank that was lost.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self.rank == 0:
            self._engine.stop()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> "LLM":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if error is None:  # otherwise that one is to be seen
                raise

    def _run(
        self, launch: LaunchOptions, settings: SessionSettings, on_progress: OnProgress, opened: "Future[Session]"
    ) -> None:
        try:
            with start_group(launch) as group:
                session = open_session(group, settings, on_progress)
                opened.set_result(session)
                session.engine.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller's thread tells it
            self._failure = error
            if not opened.done():
                opened.set_exception(error)

    def _check_ranks(self) -> None:
        """Raise `RankFailure` if the engine has failed, which it may be about to tell."""
        self._thread.join(_LAST_WORDS if self._engine.failed else 0)
        if self._failure is not None:
            raise RankFailure(str(self._failure)) from self._failure
