"""Before the first request, so that none has to wait for it: kernels for a GPU are compiled, and steps recorded."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.decode_graphs import DecodeGraphs, request_buckets, why_not_recorded
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.log import get_logger, notice
from mixtralkit.model.batch import make_batch
from mixtralkit.model.kv_cache import KVCache, separate_tables
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.layer import MoELayer
from mixtralkit.ops.invariance import as_activations
from mixtralkit.ops.sample import GREEDY, sample, settings_of
from mixtralkit.ops.upload import upload

_logger = get_logger(__name__)


@torch.inference_mode()
def prepare_steps(
    model: Transformer,
    cache: KVCache,
    limits: EngineLimits,
    *,
    context: int,
    changes: str | None,
    control: Collectives,
) -> DecodeGraphs | None:
    """The recorded decode steps, None where there are none; all ranks call it together, with the cache still unused.

    `changes` says what may change between two steps, None if nothing does.
    """
    on_gpu = model.tok_embeddings.weight.is_cuda
    reason = changes or _guesses(limits) or why_not_together(model, control)
    if on_gpu:
        notice(_logger, "compiling kernels for this GPU; what was compiled before is taken from Triton's cache")
        compile_kernels(model, cache, min(limits.step_tokens, context))
    if reason is None:
        requests = request_buckets(most_recordable(model, limits.batch_size))
        return DecodeGraphs(model, cache, requests=requests, context=context)
    if on_gpu:
        notice(_logger, f"decode steps are not recorded as CUDA graphs: {reason}")
    return None


def _guesses(limits: EngineLimits) -> str | None:
    return "tokens are guessed, so that steps feed several of a request" if limits.drafts else None


def most_recordable(model: Transformer, requests: int) -> int:
    """For how many of so many requests a step can be recorded: exchanges between ranks may have room for fewer."""
    dtype = as_activations(model.tok_embeddings.weight[:0]).dtype
    most = requests
    for block in model.layers:
        if isinstance(layer := block.feed_forward, MoELayer):
            with layer.recordable() as dispatch:
                room = dispatch.most_tokens(model.config.dim, dtype, model.config.top_k)
            most = most if room is None else min(most, room)
    return most


def why_not_together(model: Transformer, control: Collectives) -> str | None:
    """`why_not_recorded`, of the first rank that has a reason: all ranks record, or none, as they meet in the steps."""
    reasons: list[str | None] = control.all_gather_json(why_not_recorded(model))
    others = (f"on rank {rank} {reason}" for rank, reason in enumerate(reasons) if reason is not None)
    return reasons[0] or next(others, None)


@contextmanager
def uncounted(model: Transformer) -> Iterator[None]:
    """Leave what runs inside out of the load and the timeline, which all layers share."""
    with ExitStack() as stack:
        for block in model.layers[:1]:
            if isinstance(layer := block.feed_forward, MoELayer):
                stack.enter_context(layer.load.kept())
                stack.enter_context(layer.timeline.kept())
        yield


def compile_kernels(model: Transformer, cache: KVCache, most: int) -> None:
    """Feed 1 token, 2, 4, 8 and so on, up to `most`, and sample: the kernels for each size are compiled with the first.

    No kernel is compiled for one number of tokens alone, but for the tiles that suit it.
    """
    device = model.tok_embeddings.weight.device
    room = min(most, cache.num_blocks * cache.block_size)
    for length in sorted({*(2**i for i in range(room.bit_length())), room}):
        tables = separate_tables(1, length, cache.block_size)
        with uncounted(model):
            logits_BV = model.next_token_logits(make_batch([[0] * length], [0], tables, device), cache)
        sample(logits_BV, upload(settings_of([GREEDY]), device))
