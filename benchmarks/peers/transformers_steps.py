"""transformers' times: `python transformers_steps.py DTYPE EXPERTS THREADS`.

DTYPE is bfloat16 or float32, EXPERTS its implementation of the experts: eager or grouped_mm. The third, batched_mm,
copies an expert's weights for each of its rows: 15 GB for 512 tokens, and 136 and 2,653 ms a step of 1 and 8 requests
where eager took 66 and 167 (bfloat16, 2 cores of an AMD EPYC).
"""

import sys

import torch
from shape import (
    BATCH_SIZES,
    MEASURES,
    PREFILL,
    PROMPT,
    hugging_face_config,
    milliseconds_of,
    random_tokens,
    second_milliseconds,
    tell,
)
from transformers import MixtralConfig, MixtralForCausalLM


def tokens_BT(requests: int, length: int) -> torch.Tensor:
    """Random tokens."""
    return torch.tensor(random_tokens(requests * length)).view(requests, length)


def decode(model: MixtralForCausalLM, size: int) -> float:
    """Milliseconds of a step of `size` requests, past prompts of their own."""
    past = model(tokens_BT(size, PROMPT), use_cache=True, logits_to_keep=1).past_key_values
    return milliseconds_of(
        lambda position: model(tokens_BT(size, 1), past_key_values=past, use_cache=True) and None, PROMPT
    )


def prefill(model: MixtralForCausalLM) -> float:
    """Milliseconds of a long prompt."""
    return second_milliseconds(lambda: model(tokens_BT(1, PREFILL), use_cache=True, logits_to_keep=1) and None)


@torch.inference_mode()
def main(dtype: str, experts: str, threads: int) -> None:
    """Time all measures."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    torch.set_default_dtype(getattr(torch, dtype))
    model = MixtralForCausalLM(MixtralConfig(**hugging_face_config())).eval()
    model.set_experts_implementation(experts)
    times = [*(decode(model, size) for size in BATCH_SIZES), prefill(model)]
    tell(dict(zip(MEASURES, times, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
