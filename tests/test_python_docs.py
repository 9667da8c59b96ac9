"""Every Python example of the READMEs and of docs/api.md runs as it is printed, on one rank and under torchrun."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = ("README.md", "README_zh-CN.md", "docs/api.md")
EXAMPLES = [
    (file, code)
    for file in FILES
    for code in re.findall(
        r"^```python\n(.*?)^```", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
]


def test_all_examples_were_found() -> None:
    assert [file for file, _ in EXAMPLES] == ["README.md", "README_zh-CN.md", "docs/api.md", "docs/api.md"]


@pytest.mark.parametrize(("file", "code"), EXAMPLES)
def test_example(file: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, file, "exec"), {})
    assert printed.getvalue().strip()


def test_examples_under_torchrun(tmp_path: Path) -> None:
    """The other rank gets no answers, and no example trips over that.

    One script has them all, so that a process starts several groups: each must find only its own keys in the store.
    """
    script = tmp_path / "script.py"
    script.write_text("\n".join(code for _, code in EXAMPLES), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
