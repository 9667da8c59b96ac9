"""From a verb's options to what a session is opened with."""

import torch

from mixtralkit.cli.options import ChatOptions, GenerateOptions, ModelOptions
from mixtralkit.cli.progress import Progress
from mixtralkit.cli.serve_options import ServeOptions
from mixtralkit.dist.launch import Group
from mixtralkit.dtypes import weights_dtype
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.session.session import Session, open_session
from mixtralkit.session.settings import SessionSettings

LONG_STEP = 4096


def load_session(group: Group, options: GenerateOptions | ChatOptions, batch_size: int) -> Session:
    """Open the session that `options` describe, on all ranks together; rank 0 shows how far loading has come.

    Prompts are fed in large pieces: nobody watches over the pace of other responses.
    """
    limits = EngineLimits(
        batch_size=batch_size,
        step_tokens=max(LONG_STEP, batch_size),
        kv_tokens=options.kv_tokens,
        drafts=options.drafts,
    )
    progress = Progress("loading", show=group.rank == 0)
    try:
        return open_session(group, session_settings(options, limits), progress.update)
    finally:
        progress.close()


def session_settings(options: GenerateOptions | ChatOptions | ServeOptions, limits: EngineLimits) -> SessionSettings:
    """What to load and how; `options` have been checked."""
    return SessionSettings(
        model_weights=options.model_weights,
        tokenizer=options.tokenizer,
        dtype=dtype_of(options),
        quantize=None if options.quantize is None else QuantKind(options.quantize),
        dispatch=options.dispatch,
        moe_backend=options.moe_backend,
        strategies=options.strategies,
        limits=limits,
        explain=options.explain,
        keep_spans=options.trace is not None,
    )


def dtype_of(options: ModelOptions) -> torch.dtype | None:
    """The dtype that was asked for; None for the checkpoint's own."""
    return weights_dtype(options.dtype)
