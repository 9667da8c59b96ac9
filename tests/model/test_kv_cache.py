"""Generation with a cache: the same logits as without, and the same bits in every batch."""

from collections.abc import Sequence

import pytest
import torch

from mixtralkit.model.batch import make_batch
from mixtralkit.model.kv_cache import KVCache, separate_tables
from mixtralkit.model.transformer import Transformer
from tests.random_model import random_model
from tests.reference.cases import CONFIGS, config_of, random_tokens

# As in test_transformer.py: float32 sums in another order.
TOLERANCE = 1e-5
LENGTHS = (5, 1, 12, 17, 3)


def step(
    model: Transformer, cache: KVCache, tokens: Sequence[list[int]], starts: Sequence[int], slots: Sequence[int]
) -> torch.Tensor:
    """Logits after the last tokens; each slot is as many blocks of `spoilt_cache` as the context needs."""
    tables = separate_tables(1 + max(slots, default=0), model.config.context, cache.block_size)
    return model.next_token_logits(
        make_batch(tokens, starts, [tables[slot] for slot in slots], torch.device("cpu")), cache
    )


def spoilt_cache(model: Transformer, num_slots: int) -> KVCache:
    """A cache that is full of NaN, so that reading what was not written shows."""
    cache = model.new_cache(sum(map(len, separate_tables(num_slots, model.config.context))))
    for tensor in (*cache._keys, *cache._values):
        tensor.fill_(torch.nan)
    return cache


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("prefill", [1, 6, 17])
@torch.no_grad()
def test_token_by_token_equals_the_whole(case: str, prefill: int) -> None:
    model = random_model(config_of(case))
    tokens = random_tokens(model.config, 17)
    whole = model(torch.tensor([tokens]))[0]
    cache = spoilt_cache(model, 2)
    found = [step(model, cache, [tokens[:prefill]], [0], [1])]
    found += [step(model, cache, [[tokens[i]]], [i], [1]) for i in range(prefill, len(tokens))]
    torch.testing.assert_close(torch.cat(found), whole[prefill - 1 :], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", ["plain", "sliding window"])
@torch.no_grad()
def test_a_prompt_in_pieces_equals_the_whole(case: str) -> None:
    model = random_model(config_of(case))
    tokens = random_tokens(model.config, 17)
    cache = spoilt_cache(model, 1)
    pieces = ((0, 4), (4, 5), (5, 11), (11, 17))
    found = torch.cat([step(model, cache, [tokens[a:b]], [a], [0]) for a, b in pieces])
    whole = model(torch.tensor([tokens]))[0]
    torch.testing.assert_close(found, whole[[b - 1 for _, b in pieces]], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["plain", "top 3", "odd sizes", "sliding window"])
@torch.no_grad()
def test_a_request_has_the_same_bits_in_any_batch(case: str, dtype: torch.dtype, threads: int) -> None:
    """Equal, not close: the text must not depend on who else is being served."""
    torch.set_num_threads(threads)
    model = random_model(config_of(case)).to(dtype)
    prompts = [random_tokens(model.config, length, seed) for seed, length in enumerate(LENGTHS)]
    slots = [3, 0, 4, 1, 2]
    together = spoilt_cache(model, len(prompts))
    first = step(model, together, prompts, [0] * len(prompts), slots)
    second = step(model, together, [[7]] * len(prompts), LENGTHS, slots)
    for i, prompt in enumerate(prompts):
        alone = spoilt_cache(model, 1)
        assert torch.equal(step(model, alone, [prompt], [0], [0])[0], first[i])
        assert torch.equal(step(model, alone, [[7]], [len(prompt)], [0])[0], second[i])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CONFIGS)
@torch.no_grad()
def test_the_bits_do_not_depend_on_the_number_of_threads(case: str, dtype: torch.dtype) -> None:
    """A rank has as many threads as the ranks beside it leave, so more ranks would give another text."""
    model = random_model(config_of(case)).to(dtype)
    prompts = [random_tokens(model.config, length, seed) for seed, length in enumerate(LENGTHS)]
    slots = range(len(prompts))
    seen = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        cache = spoilt_cache(model, len(prompts))
        prefilled = step(model, cache, prompts, [0] * len(prompts), slots)
        seen.append(torch.cat((prefilled, step(model, cache, [[7]] * len(prompts), LENGTHS, slots))))
    assert torch.equal(seen[1], seen[0])
    assert torch.equal(seen[2], seen[0])


@torch.no_grad()
def test_prefill_and_decode_share_a_batch() -> None:
    model = random_model(config_of("plain"))
    old, new = random_tokens(model.config, 9), random_tokens(model.config, 14, seed=5)
    alone = spoilt_cache(model, 1)
    step(model, alone, [old], [0], [0])
    decoded = step(model, alone, [[7]], [9], [0])
    prefilled = step(model, spoilt_cache(model, 1), [new], [0], [0])
    mixed = spoilt_cache(model, 2)
    step(model, mixed, [old], [0], [1])
    assert torch.equal(step(model, mixed, [[7], new], [9, 0], [1, 0]), torch.cat((decoded, prefilled)))


@torch.no_grad()
def test_a_slot_is_used_again() -> None:
    model = random_model(config_of("plain"))
    cache = spoilt_cache(model, 1)
    step(model, cache, [random_tokens(model.config, 20)], [0], [0])
    short = random_tokens(model.config, 4, seed=9)
    again = step(model, cache, [short], [0], [0])
    assert torch.equal(again, step(model, spoilt_cache(model, 1), [short], [0], [0]))


@torch.no_grad()
def test_logits_after_the_rows_that_are_asked_for() -> None:
    """Of a prompt whose probabilities are wanted, and of guesses; all rows in another order are not taken for all."""
    model = random_model(config_of("plain"))
    prompts = [random_tokens(model.config, length, seed=length) for length in (4, 3)]
    whole = torch.cat([model(torch.tensor([prompt]))[0] for prompt in prompts])
    for rows in ([1, 2, 6], [], range(7), [6, 5, 4, 3, 2, 1, 0]):
        tables = separate_tables(2, 4)
        batch = make_batch(prompts, [0, 0], tables, torch.device("cpu"), logit_rows=rows)
        assert torch.equal(model.next_token_logits(batch, spoilt_cache(model, 2)), whole[list(rows)])


@torch.no_grad()
def test_a_batch_may_be_empty() -> None:
    """A rank without requests still runs every layer."""
    model = random_model(config_of("plain"))
    assert step(model, spoilt_cache(model, 1), [], [], []).shape == (0, model.config.vocab_size)
    assert model(torch.empty(0, 5, dtype=torch.int64)).shape == (0, 5, model.config.vocab_size)
