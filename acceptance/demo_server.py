"""`mixtralkit serve` on the demo model, in processes of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from acceptance.programs import ROOT

DEMO = ROOT / "demo" / "shakespeare"
MODEL = DEMO.name
TOKENIZER = "mixtralkit/demo"  # the demo's tokenizer, by the name that it gets in a cache of a model hub
END_SECONDS = 60.0
_READY = re.compile(r"serving \S+ at (http://\S+),")


@dataclass
class DemoServer:
    """A server that answers at `url`; `log` has what it writes."""

    url: str
    log: Path
    process: "subprocess.Popen[str]"

    def end(self) -> int:
        """Ask it to end; returns its exit status."""
        self.process.terminate()
        return self.process.wait(END_SECONDS)


@contextmanager
def running(log: Path, *options: str, keys: str = "") -> Iterator[DemoServer]:
    """The server for the time of a `with` block; nothing of it is left afterwards.

    Raises `RuntimeError` with what it said when it does not become ready.
    """
    command = [sys.executable, "-m", "mixtralkit", "serve", "-m", str(DEMO), "--port", "0", *options]
    variables = {**os.environ, **({"MIXTRALKIT_API_KEYS": keys} if keys else {})}
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    try:
        yield DemoServer(_address(process, log), log, process)
    finally:
        process.terminate()  # the ranks end with it
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := _READY.search(line):
            return found[1]
    raise RuntimeError(f"mixtralkit serve ended with status {process.wait()}: {log.read_text(encoding='utf-8')}")
