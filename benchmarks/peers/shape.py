"""What every contender runs, and how: the 791 M shape of `mixtralkit bench`, and the steps that are timed.

Only the standard library, because each contender imports this in a Python of its own.
"""

import json
import random
import time
from collections.abc import Callable

VOCAB, DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, TOP_K = 32000, 1024, 3584, 8, 16, 4, 64, 8, 2
CONTEXT, NORM_EPS, ROPE_THETA = 4096, 1e-5, 1e6
PROMPT, WARM_STEPS, STEPS, PREFILL = 32, 3, 20, 512
BATCH_SIZES = (1, 8)
MEASURES = (*(f"decode {size}" for size in BATCH_SIZES), f"prefill {PREFILL}")


def hugging_face_config() -> dict[str, object]:
    """The shape as config.json."""
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "vocab_size": VOCAB,
        "hidden_size": DIM,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": TOP_K,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }


def random_tokens(number: int) -> list[int]:
    """`number` token ids."""
    return random.choices(range(VOCAB), k=number)


def milliseconds_of(step: Callable[[int], None], first: int) -> float:
    """The mean time of `STEPS` decode steps, which are told their positions from `first` on, after some warm ones."""
    for position in range(first, first + WARM_STEPS):
        step(position)
    started = time.perf_counter()
    for position in range(first + WARM_STEPS, first + WARM_STEPS + STEPS):
        step(position)
    return (time.perf_counter() - started) / STEPS * 1e3


def second_milliseconds(run: Callable[[], None]) -> float:
    """The time of the second of two runs."""
    run()
    started = time.perf_counter()
    run()
    return (time.perf_counter() - started) * 1e3


def tell(figures: dict[str, float]) -> None:
    """Write the milliseconds of each of `MEASURES`, in one line that run.py reads."""
    print("FIGURES " + json.dumps(figures), flush=True)
