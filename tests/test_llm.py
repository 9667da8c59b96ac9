"""`LLM` against the engine that the tests of engine/ hold to the oracle, on one rank and under torchrun."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mixtralkit
from mixtralkit import LLM, RequestError, SamplingParams, UsageError

DEMO = Path(__file__).parents[1] / "demo" / "shakespeare"
SCRIPT = """
from mixtralkit import LLM, SamplingParams
with LLM(MODEL, batch_size=2) as llm:
    answers = llm.generate(["ROMEO:", "the sea", "to be"], SamplingParams(max_tokens=6, temperature=1.0, seed=5))
    assert bool(answers) == (llm.rank == 0)
    for answer in answers:
        print(repr(answer.text), flush=True)
"""


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(DEMO) as llm:
        yield llm


def test_answers_are_those_of_generate(llm: LLM) -> None:
    """Prompt i draws with the seed `seed` + i, and token ids stand for their text."""
    model, tokenizer = mixtralkit.load(DEMO)
    prompts = ["ROMEO:", "the sea"]
    expected = mixtralkit.generate(model, tokenizer, prompts, max_tokens=8, temperature=1.0, seed=5)
    params = SamplingParams(max_tokens=8, temperature=1.0, seed=5)
    assert [answer.tokens for answer in llm.generate(prompts, params)] == [answer.tokens for answer in expected]
    assert llm.generate(tokenizer.encode(prompts[0]), params)[0].tokens == expected[0].tokens


def test_each_prompt_may_have_its_own_parameters(llm: LLM) -> None:
    answers = llm.generate(["ROMEO:", "JULIET:"], [SamplingParams(max_tokens=2), SamplingParams(max_tokens=5)])
    assert [len(answer.tokens) for answer in answers] == [2, 5]
    with pytest.raises(UsageError, match="2 prompts and 1 parameters"):
        llm.generate(["ROMEO:", "JULIET:"], [SamplingParams()])


def test_streams_add_up_to_the_answers(llm: LLM) -> None:
    """Two at a time, in one event loop; one that is left early is cancelled, and its blocks are free again."""
    prompts = ["ROMEO:", "the sea"]
    params = SamplingParams(max_tokens=12)

    async def collect(prompt: str) -> str:
        return "".join([output.text async for output in llm.stream(prompt, params)])

    async def leave_early() -> str:
        async for output in llm.stream(prompts[0], SamplingParams(max_tokens=200)):
            return output.text
        return ""

    async def both() -> list[str]:
        return list(await asyncio.gather(*(collect(prompt) for prompt in prompts)))

    expected = [answer.text for answer in llm.generate(prompts, params)]
    assert asyncio.run(both()) == expected
    assert expected[0].startswith(asyncio.run(leave_early()))
    assert [answer.text for answer in llm.generate(prompts, params)] == expected
    assert llm._engine.snapshot().running == 0


def test_a_request_that_cannot_be_served_is_refused_before_any_work(llm: LLM) -> None:
    steps = llm._engine.snapshot().steps
    with pytest.raises(RequestError, match="the prompt has no tokens"):
        llm.generate([[1], []])
    assert llm._engine.snapshot().steps == steps


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (None, "prompts is None; it must be a text, a list of token ids, or a list of either"),
        (5, "prompts is 5; it must be a text"),
        (b"ROMEO:", "prompts is b'ROMEO:'; it must be a text"),  # a sequence of ints
        (["ROMEO:", 3], r"prompts\[1\] is 3; it must be a text or a list of token ids"),
        ([1, "ROMEO:"], r"prompts is \[1, 'ROMEO:'\]; it must be a text or a list of token ids"),
        ([[1, True]], r"prompts\[0\] is \[1, True\]; it must be"),
        ([-1], "token id -1 is outside the vocabulary"),
    ],
)
def test_what_is_no_prompt_is_refused(llm: LLM, prompts: Any, message: str) -> None:
    with pytest.raises(RequestError, match=f"^{message}"):
        llm.generate(prompts)


@pytest.mark.parametrize("params", [5, {"max_tokens": 2}, [5]])
def test_what_are_no_parameters_is_refused(llm: LLM, params: Any) -> None:
    with pytest.raises(RequestError, match="^params is .*; it must be SamplingParams, or a list of them"):
        llm.generate(["ROMEO:"], params)


@pytest.mark.parametrize(("prompt", "params"), [(5, None), (["ROMEO:"], None), ("ROMEO:", [SamplingParams()])])
def test_a_stream_is_of_one_prompt(llm: LLM, prompt: Any, params: Any) -> None:
    """A number is no list of one token id."""

    async def first() -> None:
        await anext(llm.stream(prompt, params))

    with pytest.raises(RequestError, match="^(prompt|params) is .*; it must be"):
        asyncio.run(first())


@pytest.mark.parametrize("given", ["float32", torch.float32])
def test_a_dtype_may_be_given_by_its_name(given: str | torch.dtype, llm: LLM) -> None:
    """The demo model is in bfloat16 otherwise, and its logits differ beyond the first digits."""
    params = SamplingParams(max_tokens=1, logprobs=0)
    with LLM(DEMO, dtype=given) as wide:
        (told,) = wide.generate("ROMEO:", params)
    model, tokenizer = mixtralkit.load(DEMO, dtype=given)
    with torch.no_grad():
        expected = model(torch.tensor([tokenizer.encode("ROMEO:")]))[0, -1].log_softmax(0).max()
    assert model.norm.weight.dtype == torch.float32
    assert told.logprobs[0].logprob == pytest.approx(float(expected), abs=1e-5)  # sums in another order
    assert llm.generate("ROMEO:", params)[0].logprobs[0].logprob != told.logprobs[0].logprob


def test_another_dtype_is_refused_with_the_possible_ones() -> None:
    """Before anything is looked for."""
    for make in (LLM, mixtralkit.load):
        with pytest.raises(UsageError, match="dtype is 'int3'; float32, bfloat16, float16 or auto is possible"):
            make("nowhere", dtype="int3")


def test_closing_twice_is_harmless() -> None:
    llm = LLM(DEMO)
    llm.close()
    llm.close()


def test_the_same_answers_under_torchrun(llm: LLM, tmp_path: Path) -> None:
    """Rank 0 prints them, and the other rank has nothing to print."""
    params = SamplingParams(max_tokens=6, temperature=1.0, seed=5)
    expected = [repr(answer.text) for answer in llm.generate(["ROMEO:", "the sea", "to be"], params)]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("MODEL", repr(str(DEMO))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(DEMO.parents[1])}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == expected


FAILING = """
from mixtralkit import LLM
from mixtralkit.errors import RankFailure

def fail(tokens_W):
    raise ValueError("no paper in the printer")

with LLM(MODEL, timeout=20) as llm:
    if llm.rank == 1:
        llm._engine._before_step = fail
    try:
        llm.generate("ROMEO:")
    except RankFailure as error:
        print("lost:", error, flush=True)
"""


def test_the_error_of_a_rank_is_told_there_and_named_elsewhere(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILING.replace("MODEL", repr(str(DEMO))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(DEMO.parents[1])}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert run.returncode != 0
    assert "ValueError: no paper in the printer" in run.stderr
    assert "lost: rank 1" in run.stdout
    assert "no paper in the printer" in run.stdout
