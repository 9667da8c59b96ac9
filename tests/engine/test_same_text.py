"""The same request and seed give the same tokens, whatever else the engine does: the reference is an engine that takes
one request at a time, feeds every prompt in one piece, and shares, guesses and preempts nothing.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Completion, Request, SamplingParams
from mixtralkit.tokenizer import Tokenizer
from tests.random_model import TINY, random_model, spread
from tests.ranks import run_ranks
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, vocab_size=PIECES, context=64)
ALONE = Collectives(None, torch.device("cpu"))
PLAIN = EngineLimits(batch_size=1, step_tokens=4096, reuse_prefixes=False)
TIGHT = 72  # tokens of KV cache a rank: a request can have 64, so two of them push each other out
CASES = {
    "in pieces": EngineLimits(batch_size=4, step_tokens=5, block_size=4, reuse_prefixes=False),
    "shared": EngineLimits(batch_size=4, step_tokens=16, block_size=4),
    "pushed out": EngineLimits(batch_size=4, step_tokens=16, block_size=4, kv_tokens=TIGHT, reuse_prefixes=False),
    "pushed out and shared": EngineLimits(batch_size=4, step_tokens=7, block_size=8, kv_tokens=TIGHT),
    "guessed": EngineLimits(batch_size=3, step_tokens=32, block_size=4, drafts=3),
    "all of it": EngineLimits(batch_size=5, step_tokens=20, block_size=4, kv_tokens=TIGHT, drafts=2),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer(folder)
    return folder


def _requests() -> list[Request]:
    """Two common beginnings, prompts that repeat themselves, and each way of choosing tokens."""
    generator = torch.Generator().manual_seed(5)
    first, second = (torch.randint(3, PIECES, (length,), generator=generator).tolist() for length in (17, 9))
    prompts = [[*first, 40], [*first, 41, 42], second * 2, first[:10], [7], second * 3, [*first, 40], second + first]
    params = [
        SamplingParams(max_tokens=30, ignore_eos=True),
        SamplingParams(max_tokens=20, temperature=1.0, seed=1, logprobs=2),
        SamplingParams(max_tokens=25, ignore_eos=True, repetition_penalty=1.3),
        SamplingParams(max_tokens=12, temperature=0.7, top_p=0.9, seed=2, ignore_eos=True),
        SamplingParams(max_tokens=40, temperature=2.0, top_k=9, seed=3, frequency_penalty=0.5),
        SamplingParams(max_tokens=16, ignore_eos=True, prompt_logprobs=1),
        SamplingParams(max_tokens=30, temperature=1.0, min_p=0.02, seed=4, logit_bias=((5, 3.0),)),
        SamplingParams(max_tokens=22, min_tokens=20, presence_penalty=1.0),
    ]
    return [Request(tuple(prompt), own) for prompt, own in zip(prompts, params, strict=True)]


def _answers(
    collectives: Collectives, folder: Path, cases: dict[str, EngineLimits]
) -> dict[str, tuple[list[Completion], dict[str, int]]]:
    """By case, the completions and what the engine did."""
    found = {}
    for name, limits in cases.items():
        model = random_model(CONFIG, seed=3)
        spread(model, "local" if collectives.size == 1 else "collective", collectives)
        tokenizer = Tokenizer(folder / "tokenizer.model")
        engine = Engine(model=model, tokenizer=tokenizer, control=collectives, limits=limits)
        completions = engine.generate(_requests())
        did = {"accepted": engine.stats.accepted}
        if collectives.rank == 0:
            snapshot = engine.snapshot()
            did |= {"preemptions": snapshot.preemptions, "hits": snapshot.prefix_hits, "running": snapshot.running}
        found[name] = [replace(each, rank=0, cached_tokens=0) for each in completions], did
    return found


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_same_text_however_requests_are_fed(folder: Path, size: int) -> None:
    """In pieces, mixed with others', with shared beginnings, guessed ahead, pushed out of the cache and fed again; and
    each of these does happen.
    """
    expected, _ = _answers(ALONE, folder, {"plain": PLAIN})["plain"]
    ranks = [_answers(ALONE, folder, CASES)] if size == 1 else run_ranks(size, _answers, folder, CASES)
    assert {name for name, (told, _) in ranks[0].items() if told != expected} == set()
    did = {name: deeds for name, (_, deeds) in ranks[0].items()}
    accepted = {name: sum(rank[name][1]["accepted"] for rank in ranks) for name in CASES}
    assert all(deeds["running"] == 0 for deeds in did.values())
    assert all((accepted[name] > 0) == (limits.drafts > 0) for name, limits in CASES.items())
    assert all((did[name]["hits"] > 0) == limits.reuse_prefixes for name, limits in CASES.items())
    if size == 1:  # on more ranks there is more room
        assert all((did[name]["preemptions"] > 0) == (limits.kv_tokens is not None) for name, limits in CASES.items())
