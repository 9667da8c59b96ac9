"""Decode steps beside transformers' best setting: `python -m benchmarks.gpu.transformers_steps`.

Layers of Mixtral 8x7B in bfloat16, fewer than 32 so that both fit beside each other; the time of a step is that of the
layers, and of a head. transformers is tried with each of its ways to compute experts, with and without torch.compile.
"""

import statistics
import time
from array import array
from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.cache_utils import StaticCache

from benchmarks.gpu.section import tell
from benchmarks.gpu.throughput import build
from mixtralkit.bench.machine_rates import synchronize
from mixtralkit.bench.shapes import MIXTRAL_8X7B
from mixtralkit.config import ModelConfig
from mixtralkit.engine.decode_graphs import SPARE_BLOCKS, DecodeGraphs
from mixtralkit.engine.decode_inputs import NextToken
from mixtralkit.model.kv_cache import separate_tables

LAYERS, PROMPT, WARM, STEPS = 8, 32, 5, 20
ROOM = PROMPT + 128
BATCH_SIZES = (1, 8)
EXPERTS = ("eager", "batched_mm", "grouped_mm")


def ours(config: ModelConfig, requests: int, device: torch.device) -> float:
    """Milliseconds of a recorded step, up to the tokens on the host."""
    model = build(config, "none", device)
    tables = separate_tables(requests, ROOM)
    cache = model.new_cache(sum(map(len, tables)) + SPARE_BLOCKS)
    graphs = DecodeGraphs(model, cache, requests=[requests], context=ROOM)

    def step(position: int, tokens: list[int]) -> list[int]:
        nexts = [NextToken(token, position, _array(table)) for token, table in zip(tokens, tables, strict=True)]
        chosen: list[int] = graphs.logits(nexts, requests).argmax(1).tolist()
        return chosen

    return _milliseconds(step, requests, device)


def transformers(config: ModelConfig, requests: int, device: torch.device, experts: str, *, compiled: bool) -> float:
    """Milliseconds of a step of its own loop: a static cache, the next token from the device."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = MixtralForCausalLM(_hugging_face(config)).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    model.set_experts_implementation(experts)
    cache = StaticCache(config=model.config, max_cache_len=ROOM)
    forward = torch.compile(model, mode="reduce-overhead", fullgraph=True) if compiled else model

    def step(position: int, tokens: list[int]) -> list[int]:
        ids = torch.tensor(tokens, device=device)[:, None]
        places = torch.tensor([position], device=device)
        logits = forward(ids, past_key_values=cache, cache_position=places, position_ids=places[None], use_cache=True)
        chosen: list[int] = logits.logits[:, -1].argmax(1).tolist()
        return chosen

    return _milliseconds(step, requests, device)


def _milliseconds(step: Callable[[int, list[int]], list[int]], requests: int, device: torch.device) -> float:
    """The median of some steps, each with the tokens that the one before chose."""
    tokens, times = list(range(5, 5 + requests)), []
    for position in range(PROMPT, PROMPT + WARM + STEPS):
        synchronize(device)
        started = time.perf_counter()
        tokens = step(position, tokens)
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[WARM:])


def _hugging_face(config: ModelConfig) -> MixtralConfig:
    return MixtralConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        intermediate_size=config.hidden_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_local_experts=config.num_experts,
        num_experts_per_tok=config.top_k,
        max_position_embeddings=config.context,
    )


def _array(table: range) -> "array[int]":
    return array("q", table)


@torch.inference_mode()
def main() -> None:
    """Measure on this machine's GPU."""
    device, config = torch.device("cuda"), replace(MIXTRAL_8X7B, num_layers=LAYERS)
    lines = ["| requests | mixtralkit, ms | transformers' best, ms | its setting | ratio |", "|---|---|---|---|---|"]
    document = []
    for requests in BATCH_SIZES:
        mine = ours(config, requests, device)
        torch.cuda.empty_cache()
        theirs: dict[str, float] = {}
        for experts in EXPERTS:
            for compiled in (False, True):
                name = f"{experts}{', compiled' if compiled else ''}"
                try:
                    theirs[name] = transformers(config, requests, device, experts, compiled=compiled)
                except Exception as error:  # noqa: BLE001 - a setting that does not work there is not its best one
                    print(f"transformers, {name}: {error}", flush=True)
                torch.compiler.reset()
                torch.cuda.empty_cache()
        if not theirs:
            raise SystemExit("none of transformers' settings works here")
        best = min(theirs, key=theirs.__getitem__)
        lines.append(f"| {requests} | {mine:.2f} | {theirs[best]:.2f} | {best} | {theirs[best] / mine:.2f} |")
        document.append({"requests": requests, "mixtralkit": mine, "transformers": theirs})
    tell("\n".join(lines) + "\n", document)


if __name__ == "__main__":
    main()
