"""`mixtralkit serve` in processes of its own, over the demo model."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from mixtralkit.dist.process_state import children_of
from tests.cli.demo_runs import DEMO
from tests.cli.shell import PATIENCE, PROGRAM, start

_READY = re.compile(r"serving \S+ at (http://\S+),")


class Served:
    """A server that answers, at `url`; what it writes to the standard error is kept."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = start(command)
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._wait_until_ready()

    def complete(self, **fields: Any) -> httpx.Response:
        """Ask for a completion."""
        return httpx.post(f"{self.url}/v1/completions", json={"prompt": "ROMEO:", **fields}, timeout=PATIENCE)

    def stream(self, **fields: Any) -> Iterator[dict[str, Any]]:
        """The events of a streamed completion but the last, which must be [DONE]."""
        body = {"prompt": "ROMEO:", "stream": True, "ignore_eos": True, **fields}
        with httpx.stream("POST", f"{self.url}/v1/completions", json=body, timeout=PATIENCE) as response:
            for line in response.iter_lines():
                if line == "data: [DONE]":
                    return
                if line:
                    yield json.loads(line.removeprefix("data: "))
        raise AssertionError("the stream broke off")

    def ranks(self) -> list[int]:
        """The processes of the ranks, in their order, where a launcher has started them."""
        return sorted(children_of(self.process.pid))

    def end(self) -> int:
        """Wait for the end; returns the exit status."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def _wait_until_ready(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := _READY.search(line):
                return found[1]
        raise AssertionError(f"it did not come so far: {self.end()} {''.join(self.errors)}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)


def serve_command(*words: str) -> list[str]:
    """The command, for any free port."""
    return [*PROGRAM, "serve", "-m", str(DEMO), "--port", "0", *words]


@contextmanager
def served(*words: str) -> Iterator[Served]:
    """A server for the time of a `with` block; it is killed at the end if it is still there."""
    server = Served(serve_command(*words))
    try:
        yield server
    finally:
        ranks = server.ranks() if server.process.poll() is None else []
        server.process.kill()
        for rank in ranks:
            subprocess.run(["kill", "-9", str(rank)], check=False, stderr=subprocess.DEVNULL)
        server.process.wait(PATIENCE)


def gone_within(pids: Sequence[int], seconds: float) -> bool:
    """Whether these processes all end in time."""
    deadline = time.monotonic() + seconds
    while any(_lives(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _lives(pid: int) -> bool:
    return subprocess.run(["kill", "-0", str(pid)], check=False, stderr=subprocess.DEVNULL).returncode == 0
