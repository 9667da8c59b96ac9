"""What each client does, in the order in which they run, and what the server must have to show at the end."""

import json
from collections.abc import Callable, Iterator, Mapping

from acceptance import load_generators
from acceptance.demo_server import MODEL, DemoServer, running
from acceptance.finding import Finding, expect
from acceptance.fuzzing import fuzzed
from acceptance.harness import Harness
from acceptance.programs import Program

KEY = "a-key-for-acceptance"


def openai(program: Program, server: DemoServer) -> Iterator[Finding]:
    """Completions, chat and errors; then a server with a key that is soon full."""
    yield from program.module("openai_client", "all", server.url, MODEL)
    options = ("--batch-size", "1", "--max-waiting", "1")
    with running(program.folder / "small-server.log", *options, keys=KEY) as small:
        yield from program.module("openai_client", "small", small.url, MODEL, KEY)


def lm_eval(program: Program, server: DemoServer) -> Iterator[Finding]:
    """Three tasks; then a perplexity in float32 beside float64."""
    harness = Harness(program, program.folder.parent)
    yield from harness.all_tasks(server.url)
    with running(program.folder / "float32-server.log", "--dtype", "float32") as exact:
        yield from harness.exact_perplexity(exact.url)


def guidellm(program: Program, server: DemoServer) -> Iterator[Finding]:
    """Two loads."""
    return load_generators.guidellm(program, server.url)


def aiperf(program: Program, server: DemoServer) -> Iterator[Finding]:
    """Two loads."""
    return load_generators.aiperf(program, server.url)


def schemathesis(program: Program, server: DemoServer) -> Iterator[Finding]:
    """Two minutes of anything."""
    return fuzzed(program, server.url)


def prometheus(program: Program, server: DemoServer) -> Iterator[Finding]:
    """Names and counts."""
    yield from program.module("prometheus_reader", server.url, MODEL)


CLIENTS: Mapping[str, Callable[[Program, DemoServer], Iterator[Finding]]] = {
    "openai": openai,
    "lm-eval": lm_eval,
    "guidellm": guidellm,
    "aiperf": aiperf,
    "schemathesis": schemathesis,
    "prometheus": prometheus,
}


def ends(server: DemoServer) -> str:
    """After all that it ends well when it is told to."""
    status = server.end()
    expect(status == 0, f"status {status}: {server.log.read_text(encoding='utf-8')[-1500:]}")
    return "status 0 after SIGTERM"


def answered(server: DemoServer) -> str:
    """No answer of all that it has given was a 5xx."""
    lines = [line for line in server.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    statuses = [json.loads(line)["status"] for line in lines]
    broken = [line for line, status in zip(lines, statuses, strict=True) if status >= 500]
    expect(statuses and not broken, f"{len(broken)} of {len(statuses)}: {broken[:3]}")
    return f"{len(statuses)} requests, none with a 5xx"


SERVER_CHECKS: Mapping[str, Callable[[DemoServer], str]] = {"ends": ends, "answers": answered}
