"""What is done before the first request: kernels compiled, steps recorded; on a GPU, else in Triton's interpreter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mixtralkit.dist.collectives import Collectives
from mixtralkit.engine import warm_up
from mixtralkit.engine.engine import Engine
from mixtralkit.engine.engine_limits import EngineLimits
from mixtralkit.engine.request import Request, SamplingParams
from mixtralkit.engine.warm_up import compile_kernels, prepare_steps
from mixtralkit.ops import library
from mixtralkit.tokenizer import Tokenizer
from tests.random_model import TINY, random_model, spread
from tests.ranks import run_ranks
from tests.small_tokenizer import PIECES, small_tokenizer

CONFIG = replace(TINY, head_dim=16, num_heads=2, num_kv_heads=1, num_experts=3, context=64, vocab_size=PIECES)


def test_a_request_meets_no_kernel_for_the_first_time(
    kernels: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in its prompt nor in steps that are not recorded, nor when it is sampled. Which kernels are launched is
    seen where Triton launches them.
    """
    from mixtralkit.ops.triton.sample_kernels import sample_kernel

    monkeypatch.setattr(library, "ops_if_available", lambda: None)
    launched: set[str] = set()
    kind = type(sample_kernel)
    run = kind.run

    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        launched.add(self.fn.__name__)
        return run(self, *arguments, **named)

    monkeypatch.setattr(kind, "run", watched)
    model = random_model(CONFIG, seed=5).to(kernels)
    spread(model, "local", Collectives(None, kernels))
    with torch.inference_mode():
        compile_kernels(model, model.new_cache(2), 5)
    compiled = frozenset(launched)
    assert "sample_kernel" in compiled
    small_tokenizer(tmp_path)
    engine = Engine(
        model=model,
        tokenizer=Tokenizer(tmp_path / "tokenizer.model"),
        control=Collectives(None, torch.device("cpu")),
        limits=EngineLimits(batch_size=1, kv_tokens=48),
        changes="nothing is to be recorded here",
    )
    launched.clear()
    engine.generate([Request((5, 6, 7), SamplingParams(max_tokens=3, temperature=1.0, top_p=0.9, ignore_eos=True))])
    assert launched
    assert launched <= compiled


def _recorded(collectives: Collectives) -> bool:
    """Rank 1 has a reason not to record; both would otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm_up, "why_not_recorded", lambda model: "of the weather" if collectives.rank == 1 else None)
        patch.setattr(warm_up, "DecodeGraphs", lambda *arguments, **named: "recorded")
        model = random_model(CONFIG)
        made = prepare_steps(
            *(model, model.new_cache(2), EngineLimits(batch_size=1)), context=32, changes=None, control=collectives
        )
        return made is not None


def test_ranks_record_together_or_not_at_all() -> None:
    """One that records alone would wait for the others in its first step."""
    assert run_ranks(2, _recorded) == [False, False]
