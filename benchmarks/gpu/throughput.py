"""Tokens a second of a full engine: `python -m benchmarks.gpu.throughput SHAPE QUANTIZE`.

As many requests as there is room for, each of 128 random tokens in and 2048 out, all at once: no seat is ever empty.
What counts is from the first step to the last, prompts, sampling and the scheduler included.
"""

import random
import sys
import time
from pathlib import Path

import torch

from benchmarks.gpu.section import tell
from mixtralkit.bench.random_weights import random_model
from mixtralkit.bench.shapes import shape_of
from mixtralkit.config import ModelConfig
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.topology import Topology
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.model.transformer import Transformer
from mixtralkit.moe.dispatch.local import LocalDispatch
from mixtralkit.moe.load import ExpertLoad
from mixtralkit.moe.placement.plan import even_split
from mixtralkit.moe.placement.routes import routes_of
from mixtralkit.ops.quantized_weight import quant_kind
from mixtralkit.parallelize import parallelize
from mixtralkit.tokenizer import Tokenizer

PROMPT, OUTPUT = 128, 2048
MOST_SEATS = 512
SHARE = 0.85  # of the memory that is free beside the weights, for keys and values
DEMO = Path(__file__).parents[2] / "demo" / "shakespeare" / "tokenizer.model"


def build(config: ModelConfig, quantize: str, device: torch.device) -> Transformer:
    """A model of one rank with random weights."""
    kind = None if quantize == "none" else quant_kind(quantize)
    routes = routes_of(even_split(config.num_experts, 1), Topology((0,)), 0)

    def spread(model: Transformer) -> None:
        parallelize(
            model,
            routes=[routes] * config.num_layers,
            dispatch_for=lambda routes, layer: LocalDispatch(config.num_experts),
            load=ExpertLoad(config.num_layers, config.num_experts, device),
        )

    return random_model(config, dtype=torch.bfloat16, device=device, quantize=kind, spread=spread)


def seats_for(free: float, kv_bytes_per_token: int, length: int) -> int:
    """How many requests of `length` tokens there is room for."""
    return max(1, min(MOST_SEATS, int(free * SHARE) // (kv_bytes_per_token * length)))


def run(model: Transformer, *, seats: int, prompt: int, output: int) -> tuple[float, float]:
    """Seconds of answering `seats` requests together, and of the decode steps among them."""
    engine = Engine(
        model=model,
        tokenizer=Tokenizer(DEMO),
        control=Collectives(None, torch.device("cpu")),
        limits=EngineLimits(batch_size=seats, kv_tokens=seats * (prompt + output + 16), context=prompt + output),
    )
    numbers = random.Random(0)
    requests = [
        Request(
            tuple(numbers.choices(range(3, model.config.vocab_size), k=prompt)),
            SamplingParams(max_tokens=output, temperature=1.0, ignore_eos=True, seed=seed),
        )
        for seed in range(seats)
    ]
    started = time.perf_counter()
    completions = engine.generate(requests)
    seconds = time.perf_counter() - started
    if any(len(completion.tokens) != output for completion in completions):
        raise RuntimeError("a request ended early")
    return seconds, engine.stats.decode.seconds


def main(shape: str, quantize: str) -> None:
    """Measure on this machine's GPU."""
    device, config = torch.device("cuda"), shape_of(shape)
    model = build(config, quantize, device)
    seats = seats_for(torch.cuda.mem_get_info()[0], model.kv_bytes_per_token, PROMPT + OUTPUT)
    seconds, decoding = run(model, seats=seats, prompt=PROMPT, output=OUTPUT)
    rate = seats * OUTPUT / seconds
    tell(
        f"{seats} requests of {PROMPT} tokens in and {OUTPUT} out: {rate:,.0f} tokens/s over {seconds:.1f} s, of which "
        f"{decoding:.1f} s were decode steps ({seats * OUTPUT / decoding:,.0f} tokens/s).\n",
        {"shape": shape, "quantize": quantize, "seats": seats, "seconds": seconds, "tokens_per_second": rate},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
