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
from mixtralkit.moe.dispatch.collective_mover import CollectiveMover
from mixtralkit.moe.dispatch.fixed import FixedDispatch
from mixtralkit.ops import library
from mixtralkit.parallelize import moe_layers
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


def _requests(monkeypatch: pytest.MonkeyPatch, limits: EngineLimits, dispatch: type[FixedDispatch]) -> list[int] | None:
    """For how many requests steps would be recorded, with the last layer's tokens sent by a `dispatch`."""
    monkeypatch.setattr(warm_up, "why_not_recorded", lambda model: None)
    monkeypatch.setattr(warm_up, "DecodeGraphs", lambda *arguments, **named: named["requests"])
    alone = Collectives(None, torch.device("cpu"))
    spread(model := random_model(CONFIG), "local", alone)
    layer = moe_layers(model)[-1]
    layer.use(dispatch(CollectiveMover(alone), layer.routes, alone.device))
    made: Any = prepare_steps(*(model, model.new_cache(2), limits), context=32, changes=None, control=alone)
    return made if made is None else list(made)


class _Narrow(FixedDispatch):
    """Has room for 5 tokens of such numbers."""

    def most_tokens(self, width: int, dtype: torch.dtype, top_k: int) -> int:
        assert (width, dtype, top_k) == (CONFIG.dim, torch.float32, CONFIG.top_k)
        return 5


def test_steps_are_recorded_for_as_many_requests_as_an_exchange_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of more requests run by themselves."""
    assert _requests(monkeypatch, EngineLimits(batch_size=12), FixedDispatch) == [1, 2, 4, 8, 12]
    assert _requests(monkeypatch, EngineLimits(batch_size=12), _Narrow) == [1, 2, 4, 5]


def test_nothing_is_recorded_for_steps_of_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """They feed several tokens of a request."""
    assert _requests(monkeypatch, EngineLimits(drafts=2), FixedDispatch) is None
