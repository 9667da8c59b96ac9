"""Three tasks for lm-evaluation-harness, over local files: their YAML is written as JSON, which is YAML too."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acceptance.plays import Question

CHOICE, PERPLEXITY, GENERATION = "plays_next_line", "plays_perplexity", "plays_go_on"
MAX_TOKENS = 48
STOP = "\n\n"


def write_tasks(
    folder: Path, questions: Sequence[Question], scenes: Sequence[str], prompts: Sequence[str], texts: Sequence[str]
) -> None:
    """Multiple choice over the questions, perplexity of the scenes, and `texts`, which must be what `prompts` give."""
    asked = [{"text": asked.text, "choices": asked.choices, "answer": asked.answer} for asked in questions]
    _write(
        *(folder, CHOICE, asked),
        output_type="multiple_choice",
        doc_to_text="{{text}}",
        doc_to_choice="choices",
        doc_to_target="answer",
        target_delimiter="\n",
        metric_list=[{"metric": "acc"}],
    )
    _write(
        *(folder, PERPLEXITY, [{"text": scene} for scene in scenes]),
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metric_list=[{"metric": f"{unit}_perplexity"} for unit in ("word", "byte")],
    )
    _write(
        *(folder, GENERATION, [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]),
        output_type="generate_until",
        doc_to_text="{{prompt}}",
        doc_to_target="{{text}}",
        generation_kwargs={"until": [STOP], "max_gen_toks": MAX_TOKENS, "temperature": 0.0},
        metric_list=[{"metric": "exact_match"}],
    )


def _write(folder: Path, name: str, documents: Sequence[dict[str, Any]], **settings: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
    task = {"task": name, **source, **settings}
    data.with_suffix(".yaml").write_text(json.dumps(task, indent=1) + "\n", encoding="utf-8")
