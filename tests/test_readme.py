"""The README's commands, run as they are typed. A command that is in no list below fails the test."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = ROOT / "demo" / "shakespeare"

# What another test, or the making of the environment that this one runs in, has done already.
ELSEWHERE = {
    "make test": "is what runs this test",
    "python3 -m venv .venv && . .venv/bin/activate": "make has done so",
    "pip install -r requirements.txt": "make has done so",
    "pip install -e .": "make has done so",
    "ln -s /path/to/Mixtral-8x7B ckpts": "the fixture makes the link",
    "mixtralkit serve -m demo/shakespeare": "tests/cli/test_serve.py runs it, and ends it",
    "curl http://127.0.0.1:8000/v1/completions -H 'Content-Type: application/json' "
    """-d '{"prompt": "ROMEO:", "max_tokens": 40}'""": "tests/test_serving_docs.py asks a server",
    "torchrun --nproc_per_node 4 --nnodes 2 --node_rank 0 --master_addr node0 --master_port 29540 "
    "tools/example.py -m ./ckpts -t ckpts/tokenizer.model": "tests/cli/test_two_hosts.py runs it on two hosts",
}


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The lines of the shell blocks, continued lines joined."""
    joined = "".join(blocks("bash")).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a user stands: the repository's top level, with a link `ckpts` to a checkpoint."""
    for entry in ROOT.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "ckpts").unlink(missing_ok=True)
    (tmp_path / "ckpts").symlink_to(DEMO)
    return tmp_path


@pytest.mark.parametrize("command", [command for command in commands() if command not in ELSEWHERE])
def test_command(command: str, folder: Path) -> None:
    """It ends well and prints something."""
    program = next(word for word in shlex.split(command) if "=" not in word)  # after the variables set for it
    assert program in {"make", "torchrun", "mixtralkit"}, f"this test does not know how to run: {command}"
    if program == "make" and not (ROOT / ".venv" / ".installed").exists():
        pytest.skip("make would install everything into .venv first; `make test` has done that")
    scripts = str(Path(sys.executable).parent)
    done = subprocess.run(
        command,
        shell=True,
        cwd=ROOT if program == "make" else folder,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_lists_hold_nothing_that_is_gone() -> None:
    """A command that left the README leaves the list above too."""
    assert set(ELSEWHERE) <= set(commands())
