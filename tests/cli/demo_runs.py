"""The demo model on two ranks, as typed. Such a run takes seconds, so that files of tests share some (conftest.py)."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias

from tests.cli.shell import PROGRAM, ROOT, run

DEMO = ROOT / "demo" / "shakespeare"
PROMPTS = ("ROMEO:\n", "To be, or not to be, that is the question: whether it is nobler in the mind to suffer")
TOKENS = 60
Done: TypeAlias = "subprocess.CompletedProcess[str]"


def generate(*words: str, tokens: int = TOKENS, report: str = "json", variables: Mapping[str, str] = {}) -> Done:
    """Answer `PROMPTS` on two ranks, to the end, which must be a good one."""
    fixed = ["--nproc", "2", "-m", str(DEMO), "--max-tokens", str(tokens), "--report", report]
    done = run([*PROGRAM, "generate", *fixed, *words, *PROMPTS], **variables)
    assert done.returncode == 0, done.stderr
    return done


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


def document(done: Done) -> Any:
    """The output as JSON, as strict readers see it."""
    return json.loads(done.stdout, parse_constant=_no_constant)


def report(done: Done) -> Any:
    return document(done)["report"]


def responses(done: Done) -> list[str]:
    return [completion["response"] for completion in document(done)["completions"]]
