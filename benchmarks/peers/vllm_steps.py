"""The times of vLLM's CPU build, in bfloat16: `python vllm_steps.py FOLDER`, where config.json is; weights are random.

vLLM has no call for one step: decode is the difference between generating many tokens and one, over their number.
"""

import sys
import time

from shape import BATCH_SIZES, MEASURES, PREFILL, PROMPT, STEPS, random_tokens, tell
from vllm import LLM, SamplingParams


def seconds(model: LLM, requests: int, prompt: int, tokens: int) -> float:
    """The time of generating `tokens` for each of some random prompts."""
    sampling = SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True, detokenize=False)
    prompts = [{"prompt_token_ids": random_tokens(prompt)} for _ in range(requests)]
    started = time.perf_counter()
    model.generate(prompts, sampling, use_tqdm=False)
    return time.perf_counter() - started


def decode(model: LLM, size: int) -> float:
    """Milliseconds of a step of `size` requests."""
    seconds(model, size, PROMPT, 4)
    first = seconds(model, size, PROMPT, 1)
    return (seconds(model, size, PROMPT, 1 + STEPS) - first) / STEPS * 1e3


def prefill(model: LLM) -> float:
    """Milliseconds of a long prompt, and its first token."""
    seconds(model, 1, PREFILL, 1)
    return seconds(model, 1, PREFILL, 1) * 1e3


if __name__ == "__main__":
    loaded = LLM(
        model=sys.argv[1],
        load_format="dummy",
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=2048,
        enable_prefix_caching=False,
    )
    times = [*(decode(loaded, size) for size in BATCH_SIZES), prefill(loaded)]
    tell(dict(zip(MEASURES, times, strict=True)))
