"""Prompts from the command line, from files and from the standard input."""

import io
import json
from pathlib import Path

import pytest

from mixtralkit.cli.prompts import BUILT_IN, read_prompts
from mixtralkit.errors import UsageError


def test_without_any_the_built_in_ones_are_answered() -> None:
    assert read_prompts((), None) == list(BUILT_IN)


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("one\r\n\n  two \n[3]\n你好".encode())
    assert read_prompts(("zero",), file) == ["zero", "one", "  two ", "[3]", "你好"]


def test_a_jsonl_file_has_strings_or_objects(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join([json.dumps("a\nb"), json.dumps({"prompt": "c", "id": 7}), ""]))
    assert read_prompts((), file) == ["a\nb", "c"]


def test_the_standard_input_is_one_prompt_or_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("To be,\nor not\n"))
    assert read_prompts(("x", "-"), None) == ["x", "To be,\nor not"]
    monkeypatch.setattr("sys.stdin", io.StringIO("To be,\nor not\n"))
    assert read_prompts((), Path("-")) == ["To be,", "or not"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", "has no prompts"),
        (b"\xff\n", "is not UTF-8 text"),
        (b'"a"\n{"text": "b"}\n', "line 2 is neither a string nor an object with a string as its 'prompt'"),
        (b'{"prompt": 5}', "line 1 is neither"),
        (b"{", "line 1 is not valid JSON"),
        (b"[" * 100_000, "line 1 is not valid JSON"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_files_that_cannot_be_used(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_prompts((), file)
