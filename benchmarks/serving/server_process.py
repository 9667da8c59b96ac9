"""A server in a process of its own: started, waited for, and stopped with all that it has started."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.serving.contenders import HOST, Contender

READY_SECONDS, END_SECONDS = 900.0, 60.0
SHOWN = 3000  # characters of a failed server's log


@contextmanager
def running(contender: Contender, threads: int, logs: Path) -> Iterator[str]:
    """Its address, once it answers; what it writes goes into the folder `logs`.

    Raises `RuntimeError` with the end of that when the server ends or does not become ready.
    """
    port = _free_port()
    log = logs / f"{contender.name}.log"
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), **dict(contender.variables)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            contender.command(port), env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://{HOST}:{port}"
        _wait_until_ready(url, process, log)
        yield url
    finally:
        _stop(process)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while not _is_ready(url):
        if process.poll() is not None or time.monotonic() > until:
            state = "is not ready" if process.poll() is None else f"ended with status {process.returncode}"
            raise RuntimeError(f"{log.stem} {state}:\n{log.read_text(errors='replace')[-SHOWN:]}")
        time.sleep(0.5)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and after a while SIGKILL for all of its session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
