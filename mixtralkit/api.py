"""From Python, without torchrun: load a checkpoint, look at its logits, generate."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mixtralkit.checkpoint.formats import detect
from mixtralkit.checkpoint.loader import load_model
from mixtralkit.checkpoint.matching_tokenizer import open_tokenizer
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dtypes import weights_dtype
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Completion, SamplingParams
from mixtralkit.model.kv_cache import BLOCK_SIZE
from mixtralkit.model.transformer import Transformer
from mixtralkit.ops.quantized_weight import quant_kind
from mixtralkit.prompt_requests import Prompt, requests_of
from mixtralkit.tokenizer import Tokenizer


def load(
    folder: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: str | torch.device = "cpu",
    quantize: str | None = None,
) -> tuple[Transformer, Tokenizer]:
    """Load a checkpoint folder, in any of the forms of docs/checkpoints.md, with the tokenizer.model in it.

    `dtype` is one of torch's or its name; None and "auto" keep the file's. `quantize` "int8", "int4" or "fp8" quantizes
    the matrices while they are read. `model(tokens_BT)` gives float32 logits `[B, T, V]`. Raises `CheckpointError`,
    `ConfigError`, `UsageError` or `TokenizerError`, the last before any weights are read.
    """
    wanted = weights_dtype(dtype)
    kind = None if quantize is None else quant_kind(quantize)
    tokenizer = open_tokenizer(detect(folder))
    return load_model(folder, dtype=wanted, device=torch.device(device), quantize=kind), tokenizer


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Prompt | Sequence[Prompt],
    *,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    batch_size: int = 8,
) -> list[Completion]:
    """One completion a prompt, a text or token ids, in order; prompt i draws with the seed `seed` + i.

    Raises `RequestError` when a value is out of range or a prompt does not fit the model.
    """
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )
    requests = requests_of(tokenizer, prompts, params)
    control = Collectives(None, torch.device("cpu"))
    longest = max((len(request.prompt_tokens) + max_tokens for request in requests), default=1)
    room = min(longest, model.config.context) + BLOCK_SIZE
    limits = EngineLimits(batch_size=batch_size, kv_tokens=batch_size * room)
    engine = Engine(model=model, tokenizer=tokenizer, control=control, limits=limits, prepares=False)
    return engine.generate(requests)
