"""`LLM` against the engine that the tests of engine/ hold to the oracle, on one rank and under torchrun."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mixtralkit
from mixtralkit import LLM, SamplingParams
from mixtralkit.errors import RequestError, UsageError

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
