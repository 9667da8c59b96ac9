"""Decode steps as CUDA graphs: recorded when the engine starts, one for each number of requests and context.

A step of a few tokens is some hundred launches of some microseconds each; Python takes longer to make them than the
device to carry them out. A graph is one launch, with the exchange between the ranks inside.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from mixtralkit.engine.decode_inputs import DecodeInputs, NextToken
from mixtralkit.engine.step_recording import Tensors, new_pool, recorded
from mixtralkit.log import get_logger, notice
from mixtralkit.model.kv_cache import KVCache
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.dispatch.base import Dispatch
from mixtralkit.moe.layer import MoELayer
from mixtralkit.ops.expert_mlp import Counts
from mixtralkit.ops.triton_kernels import triton_takes

SPARE_BLOCKS = 1  # of the cache, for the token that a rank without requests feeds
_LEAST_CONTEXT = 1024
_CONTEXTS = 4  # each context is so many times the one before
_logger = get_logger(__name__)


def why_not_recorded(model: Transformer) -> str | None:
    """Why decode steps of `model` cannot be CUDA graphs; None where they can."""
    weight = model.tok_embeddings.weight
    if not triton_takes(weight):
        return "the model is on a CPU" if weight.is_cpu else "there is no Triton"
    layers = [block.feed_forward for block in model.layers]
    if not all(isinstance(layer, MoELayer) for layer in layers):
        return "its layers are not those of a rank"
    reasons = (layer.why_it_waits for layer in layers if isinstance(layer, MoELayer))
    return next((reason for reason in reasons if reason is not None), None)


def request_buckets(most: int) -> list[int]:
    """For how many requests steps are recorded: 1, 2, 4, 8, 16, 24, 32, 48, 64, 96 and so on, and `most`."""
    powers = [2**i for i in range(most.bit_length())]
    halfway = [power * 3 // 2 for power in powers if power >= 16]
    return sorted({bucket for bucket in (*powers, *halfway) if bucket < most} | {most})


def context_buckets(most: int) -> list[int]:
    """For how many positions steps are recorded: attention is launched for as many as there may be."""
    contexts = []
    context = _LEAST_CONTEXT
    while context < most:
        contexts.append(context)
        context *= _CONTEXTS
    return [*contexts, most]


@dataclass(frozen=True)
class _Graph:
    """A recorded step. `replay` gives the logits `[B, V]`, the experts chosen in each layer `[L, B, K]`, and, if there
    are layers that count on the device, how many rows each of their experts had. The others had `rows_on_host`.
    """

    inputs: DecodeInputs
    replay: Callable[[], Tensors]
    rows_on_host: int


class DecodeGraphs:
    """The recorded steps of a rank, for each number of `requests` (see `request_buckets`) of up to `context` tokens.

    All ranks make one at the same time, and run steps of the same number of requests, some of them being copies. The
    last block of `cache` is not any request's.
    """

    def __init__(self, model: Transformer, cache: KVCache, *, requests: Sequence[int], context: int) -> None:
        started = time.perf_counter()
        self._model, self._cache = model, cache
        self._device = model.tok_embeddings.weight.device
        self._layers = [layer for block in model.layers if isinstance(layer := block.feed_forward, MoELayer)]
        self.most = max(requests)
        self._requests, self._contexts = sorted(requests), context_buckets(context)
        self._dispatches: set[Dispatch] = set()  # whose tensors graphs read, also when layers have come to use others
        self._idle = NextToken(0, 0, array("q", (cache.num_blocks - SPARE_BLOCKS,)))
        if self._device.type == "cuda":
            notice(_logger, "recording decode steps as CUDA graphs; the first time their kernels are compiled")
        self._pool = new_pool(self._device)
        self._graphs = {
            (number, positions): self._record(number, positions)
            for number in reversed(self._requests)  # the largest first: the others find room in its memory
            for positions in reversed(self._contexts)
        }
        if self._device.type == "cuda":
            notice(_logger, f"recorded {len(self._graphs)} of them in {time.perf_counter() - started:.1f} s")

    def logits(self, tokens: Sequence[NextToken], most: int) -> torch.Tensor:
        """Logits after each of `tokens`, float32 `[B, V]`, on the device until the next call; the cache is extended.

        `most` is the most requests that any rank has in this step, up to `self.most`.
        """
        requests = self._requests[bisect_left(self._requests, most)]
        positions = max((each.position + 1 for each in tokens), default=1)
        graph = self._graphs[requests, self._contexts[bisect_left(self._contexts, positions)]]
        graph.inputs.fill(tokens or [self._idle])
        logits_BV, ids_LBK, *rows = graph.replay()
        self._layers[0].load.count_step(ids_LBK[:, : len(tokens)])
        timeline = self._layers[0].timeline
        timeline.count_rows([graph.rows_on_host])
        for counts in rows:
            timeline.count_rows(counts)
        return logits_BV[: len(tokens)]

    def check(self) -> None:
        """Raise what the device has noted of an exchange in a replayed step that it gave up; see `Dispatch.check`.

        The layers may use other dispatches by now, so asking them is not enough.
        """
        for dispatch in self._dispatches:
            dispatch.check()

    def _record(self, requests: int, positions: int) -> _Graph:
        inputs = DecodeInputs(requests, positions, self._cache.block_size, self._device)
        inputs.fill([self._idle])
        rows: list[Counts] = []

        def step() -> Tensors:
            nonlocal rows
            with ExitStack() as stack:
                for layer in self._layers:
                    self._dispatches.add(stack.enter_context(layer.recordable()))
                ids = stack.enter_context(self._layers[0].load.kept())
                rows = stack.enter_context(self._layers[0].timeline.kept())
                logits_BV = self._model.next_token_logits(inputs.batch(), self._cache)
            on_device = [counts for counts in rows if isinstance(counts, torch.Tensor)]
            return [logits_BV, torch.stack(ids), *([torch.cat(on_device)] if on_device else [])]

        step()
        replay = recorded(step, self._pool)
        on_host = sum(sum(counts) for counts in rows if not isinstance(counts, torch.Tensor))
        return _Graph(inputs, replay, on_host)
