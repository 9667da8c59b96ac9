"""Where prompts come from."""

import json
import sys
from pathlib import Path

from mixtralkit.errors import UsageError

STANDARD_INPUT = "-"
BUILT_IN = (
    "To be, or not to be, that is the question:",
    "ROMEO:\nBut soft, what light through yonder window breaks?",
    "Once upon a time there lived a king who",
)


def read_prompts(inline: tuple[str, ...], file: Path | None) -> list[str]:
    """The prompts that the user gave, those of the file last, or the built-in ones.

    An inline "-" is one prompt, the whole standard input but for a newline at its end.
    """
    if file is None and not inline:
        return list(BUILT_IN)
    prompts = [_standard_input().removesuffix("\n") if text == STANDARD_INPUT else text for text in inline]
    return prompts + (_file_prompts(file) if file is not None else [])


def _file_prompts(file: Path) -> list[str]:
    text = _standard_input() if str(file) == STANDARD_INPUT else _read(file)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise UsageError(f"--prompt-file {file} has no prompts; a line each is needed")
    if file.suffix == ".jsonl":
        return [_json_prompt(line, f"{file}, line {number}") for number, line in lines]
    return [line.removesuffix("\r") for _, line in lines]


def _json_prompt(line: str, where: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not valid JSON: {error}") from error
    prompt = value.get("prompt") if isinstance(value, dict) else value
    if not isinstance(prompt, str):
        raise UsageError(f"{where} is neither a string nor an object with a string as its 'prompt'")
    return prompt


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--prompt-file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompt-file {file} is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"the standard input is not text: {error.reason} at byte {error.start}") from error
