"""lm-evaluation-harness, model local-completions, with the server's tokenizer: its figures must be ours."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import mixtralkit
from acceptance import plays, scores
from acceptance.demo_server import DEMO, MODEL
from acceptance.finding import Finding
from acceptance.harness_tasks import CHOICE, GENERATION, MAX_TOKENS, PERPLEXITY, STOP, write_tasks
from acceptance.programs import Program
from mixtralkit import LLM, SamplingParams

TOLERANCE = 1e-4  # of a perplexity, relative
AT_A_TIME = 4


class Harness:
    """The tasks over the demo's held-out scenes; `work` keeps the plays."""

    def __init__(self, program: Program, work: Path) -> None:
        self._program = program
        scenes = plays.held_out_scenes(work)
        self._questions = plays.questions(scenes)
        self._scenes = plays.measured(scenes)
        self._tasks = (program.folder / "tasks").absolute()
        prompts = plays.beginnings(scenes)
        write_tasks(self._tasks, self._questions, self._scenes, prompts, _texts(prompts))

    def all_tasks(self, url: str) -> Iterator[Finding]:
        """Against a server with the checkpoint's own dtype; ours is the model in this process, in the same."""
        found = self._run(url, "all", [CHOICE, PERPLEXITY, GENERATION])
        model, tokenizer = mixtralkit.load(DEMO)
        logits = scores.of_mixtralkit(model)
        accuracy = scores.accuracy(self._questions, tokenizer, logits)
        yield _equal("multiple choice: accuracy", found[CHOICE]["acc,none"], accuracy, 0.0)
        yield Finding(
            "multiple choice: above chance", accuracy > 2 / plays.CHOICES, f"{accuracy:.1%} of {plays.QUESTIONS}"
        )
        yield from _perplexities(found, scores.perplexities(self._scenes, tokenizer, logits), "mixtralkit.load")
        yield _equal("generation: texts that are mixtralkit's own", found[GENERATION]["exact_match,none"], 1.0, 0.0)

    def exact_perplexity(self, url: str) -> Iterator[Finding]:
        """Against a server in float32; ours is computed in float64, by the tests' oracle."""
        found = self._run(url, "float32", [PERPLEXITY])
        model, tokenizer = mixtralkit.load(DEMO, dtype=torch.float32)
        exact = scores.perplexities(self._scenes, tokenizer, scores.of_oracle(model))
        yield from _perplexities(found, exact, "the oracle in float64")

    def _run(self, url: str, name: str, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The harness' results by task."""
        output = (self._program.folder / f"results-{name}").absolute()
        model = f"base_url={url}/v1/completions,model={MODEL},tokenizer_backend=remote,max_length={scores.CONTEXT}"
        self._program.run(
            *("lm_eval", "--model", "local-completions", "--model_args", f"{model},num_concurrent={AT_A_TIME}"),
            *("--tasks", ",".join(tasks), "--include_path", str(self._tasks), "--output_path", str(output)),
            "--log_samples",
        )
        newest = max(output.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
        results: dict[str, dict[str, Any]] = json.loads(newest.read_text(encoding="utf-8"))["results"]
        return results


def _texts(prompts: Sequence[str]) -> list[str]:
    """What the Python API answers, from the tokens that the harness sends: without BOS."""
    params = SamplingParams(max_tokens=MAX_TOKENS, stop=(STOP,))
    with LLM(DEMO) as llm:
        answers = llm.generate([llm.tokenizer.encode(prompt, bos=False) for prompt in prompts], params)
    return [answer.text for answer in answers]


def _perplexities(found: dict[str, dict[str, Any]], ours: dict[str, float], whose: str) -> Iterator[Finding]:
    for name, value in ours.items():
        what = f"perplexity: {name.partition('_')[0]}, beside {whose}"
        yield _equal(what, found[PERPLEXITY][f"{name},none"], value, TOLERANCE)


def _equal(what: str, found: float, ours: float, tolerance: float) -> Finding:
    error = abs(found / ours - 1)
    return Finding(what, error <= tolerance, f"{found:.6f}, ours {ours:.6f}, {error:.1e} apart")
