"""What the jobs run: a checkpoint and a file of prompts, each of them of exactly as many tokens as asked for."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.zipf_checkpoint import TOKENIZER, write_zipf_checkpoint
from mixtralkit.bench.shapes import shape_of
from mixtralkit.tokenizer import Tokenizer

DEMO = TOKENIZER.parent
REQUESTS, PROMPT_TOKENS = 16, 128  # 2048 tokens of prefill, and decode at batch 16
# Of the demo model's words those whose rows go to each layer's favourite experts most often. A prompt of these sends
# the favourite of 8 experts 45 % of its rows, where one of any words sends 31 %.
SKEWED_TEXT = (
    "hour fast tongue worth themselves shame patience peace city flesh cross wish faith tender ladies black "
    "oath wood cousin court enemy emperor mercy country wall chamber rage loved lordship door hand heaven "
    "strike"
)


@dataclass(frozen=True)
class Subject:
    """A checkpoint's folder, with its tokenizer, and the prompts, a JSON string a line."""

    name: str
    folder: Path
    prompts: Path


def zipf_subject(work: Path, config: str) -> Subject:
    """A checkpoint of the shape `config` with Zipf's routing, made anew, and random words."""
    folder = work / "zipf"
    write_zipf_checkpoint(folder, shape_of(config))
    tokenizer = Tokenizer(folder / "tokenizer.model")
    return Subject("zipf", folder, write_prompts(work / "zipf.jsonl", tokenizer, whole_words(tokenizer)))


def demo_subject(work: Path, _config: str) -> Subject:
    """The demo model and words on which its routing is skewed."""
    return Subject("demo", DEMO, write_prompts(work / "demo.jsonl", Tokenizer(TOKENIZER), SKEWED_TEXT.split()))


def whole_words(tokenizer: Tokenizer) -> list[str]:
    """The words that are one token each, wherever they stand."""
    words = []
    for token in range(tokenizer.vocab_size):
        text = tokenizer.decode([token])
        if text.isalpha() and tokenizer.encode(text, bos=False) == [token]:
            words.append(text)
    return words


def write_prompts(file: Path, tokenizer: Tokenizer, words: Sequence[str]) -> Path:
    """Write `REQUESTS` prompts of random `words`; raises `ValueError` where these are not one token each."""
    draw = random.Random(0)
    prompts = [" ".join(draw.choices(words, k=PROMPT_TOKENS - 1)) for _ in range(REQUESTS)]  # and BOS
    lengths = {len(tokenizer.encode(prompt)) for prompt in prompts}
    if lengths != {PROMPT_TOKENS}:
        raise ValueError(f"prompts for {file.name} have {sorted(lengths)} tokens, not {PROMPT_TOKENS}")
    file.write_text("\n".join(json.dumps(prompt) for prompt in prompts) + "\n", encoding="utf-8")
    return file


SUBJECTS: Mapping[str, Callable[[Path, str], Subject]] = {"zipf": zipf_subject, "demo": demo_subject}
