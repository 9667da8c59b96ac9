"""Runs real clients, unmodified, against `mixtralkit serve` on the demo model, and says what each found.

    python -m acceptance [--only openai,lm-eval] [--nproc 2] [--work build/acceptance]

Each client gets a virtual environment below the work folder the first time (guidellm brings torch: some 4 GB in all).
Ten minutes afterwards. The exit status is 1 when a check fails or a client cannot be installed.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from acceptance import clients
from acceptance.demo_server import DemoServer, running
from acceptance.finding import Finding, checked
from acceptance.packages import PACKAGES, python_of
from acceptance.programs import ROOT, Program


def main() -> int:
    """Run the chosen clients; returns the exit status."""
    options = _arguments()
    work: Path = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    failed = 0
    with running(work / "server.log", "--nproc", str(options.nproc)) as server:
        for client in options.only.split(","):
            failed += _told(client, _findings(client, work, server))
        failed += _told("server", checked(clients.SERVER_CHECKS, server))
    print(f"{failed} failed" if failed else "all passed")
    return min(failed, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m acceptance", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", default=",".join(PACKAGES), help=f"clients, with commas between: {', '.join(PACKAGES)}"
    )
    parser.add_argument("--nproc", type=int, default=2, help="ranks of the server")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "acceptance", help="a folder for all files; kept")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - set(PACKAGES):
        parser.error(f"--only: there is no client {', '.join(sorted(unknown))}; there are {', '.join(PACKAGES)}")
    return options


def _findings(client: str, work: Path, server: DemoServer) -> Iterator[Finding]:
    """What a client says; where it cannot be installed or breaks, that."""
    try:
        program = Program(python_of(client, work / "venvs"), work / client)
        yield from clients.CLIENTS[client](program, server)
    except Exception as error:  # noqa: BLE001 - the other clients still have their turn
        yield Finding("runs to its end", False, f"{type(error).__name__}: {error}")


def _told(client: str, findings: Iterable[Finding]) -> int:
    """Print each finding as it comes; returns how many checks failed."""
    failed = 0
    for finding in findings:
        failed += not finding.passed
        print(f"{'ok  ' if finding.passed else 'FAIL'}  {client}: {finding.what}: {finding.found}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
