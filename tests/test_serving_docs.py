"""docs/serving.md and the README on serving: examples run against a server, what is named exists."""

import contextlib
import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import httpx
import pytest

from mixtralkit.cli.arguments import check_arguments
from mixtralkit.cli.option import options_of
from mixtralkit.cli.verbs import VERBS
from mixtralkit.serve.metrics import PREFIX
from tests.cli.served import Served, served

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
UNIT = (ROOT / "deploy" / "mixtralkit.service").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
TORCHRUN = {"--standalone", "--nproc_per_node", "--nnodes", "--node_rank", "--master_addr", "--master_port"}
VERB_OPTIONS = {verb.name: options_of(verb.options) for verb in VERBS}
# Programs with options of their own, whose words are not checked.
OTHERS = {"python tools/text_generation_cli.py 127.0.0.1:8000": "tests/cli/test_serve.py runs it"}
LONGEST_END = 15  # seconds between --shutdown-timeout and systemd's


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str = TEXT) -> list[list[str]]:
    """The words of each command of the shell blocks; one ends where a line ends outside of quotes."""
    found: list[list[str]] = []
    for block in blocks("bash", text):
        lines = block.replace("\\\n", " ").splitlines()
        while lines:
            command = lines.pop(0)
            while command.count("'") % 2:
                command += "\n" + lines.pop(0)
            found.append(shlex.split(command))
    return found


def starting_with(program: str, text: str = TEXT) -> list[list[str]]:
    return [words for words in commands(text) if words[0] == program]


def test_every_command_is_checked_below() -> None:
    for words in commands():
        assert words[0] in ("curl", "mixtralkit", "torchrun") or shlex.join(words) in OTHERS


@pytest.mark.parametrize("words", [*starting_with("curl"), *starting_with("curl", README)], ids=lambda words: words[1])
def test_curl(words: list[str], server: Served) -> None:
    told = subprocess.run(
        [word.replace(ADDRESS, server.url) for word in [words[0], "-sS", *words[1:]]],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert '"error"' not in told
    assert '"message":' not in told or '"choices"' in told
    if not told.startswith("data: "):
        json.loads(told)


@pytest.mark.parametrize("code", blocks("python"))
def test_python(code: str, server: Served) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code.replace(ADDRESS, server.url), "serving.md", "exec"), {})
    assert len(printed.getvalue()) > len("\n")


@pytest.mark.parametrize("words", starting_with("mixtralkit"), ids=shlex.join)
def test_options_of_commands(words: list[str]) -> None:
    verb = " ".join(words[1:3]) if words[1] == "bench" else words[1]
    check_arguments(VERB_OPTIONS[verb], words[1 + len(verb.split()) :])


@pytest.mark.parametrize("words", starting_with("torchrun"), ids=shlex.join)
def test_options_of_torchrun(words: list[str]) -> None:
    script = words.index("tools/serve.py")
    assert {word.partition("=")[0] for word in words[:script] if word.startswith("--")} <= TORCHRUN
    check_arguments(VERB_OPTIONS["serve"], words[script + 1 :])


def test_options_in_the_text() -> None:
    flags = {flag for option in chain.from_iterable(VERB_OPTIONS.values()) for flag in option.flags}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]*", TEXT))
    assert {"--drafts", "--kv-tokens", "--shutdown-timeout"} <= named
    assert named - flags - TORCHRUN - {"--help"} == set()


def test_every_option_of_the_server_is_explained() -> None:
    own = next(verb for verb in VERBS if verb.name == "serve").options.__annotations__
    for name in own:
        assert f"--{name.replace('_', '-')}" in TEXT


def test_routes(server: Served) -> None:
    """All of them, and no others."""
    (table,) = re.findall(r"\| route \| \|\n\|---\|---\|\n((?:\|.*\n)+)", TEXT)
    named = {tuple(route.split()) for route in re.findall(r"`([A-Z]+ /[^`]*)`", table)}
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    documented = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert named == documented - {("GET", "/v1/models/{name}")} | {("GET", "/"), ("GET", "/openapi.json")}
    for method, path in named:
        assert httpx.request(method, server.url + path).status_code not in (404, 405)


def test_metrics(server: Served) -> None:
    """All of them, and no others."""
    (table,) = re.findall(r"\| name \| kind \| \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", TEXT)
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    kinds = dict(line.removeprefix(f"# TYPE {PREFIX}").split() for line in lines if line.startswith(f"# TYPE {PREFIX}"))
    assert named == {name for name in kinds if not name.endswith("_created")}
    for row in table.splitlines():
        _, cell, kind, *_ = row.split("|")
        assert all(kinds[name] == kind.strip() for name in re.findall(r"`(\w+)`", cell))


def test_the_unit_waits_longer_than_the_server() -> None:
    """And signals the launcher alone: a second signal would cut requests off."""
    settings = dict(line.split("=", 1) for line in UNIT.splitlines() if "=" in line and not line.startswith("#"))
    _, verb, *words = settings["ExecStart"].split()
    check_arguments(VERB_OPTIONS[verb], words)
    patience = words[words.index("--shutdown-timeout") + 1]
    assert int(settings["TimeoutStopSec"]) == int(patience) + LONGEST_END
    assert settings["KillMode"] == "mixed"
    for line in ("KillMode=mixed", f"TimeoutStopSec={settings['TimeoutStopSec']}", "RestartPreventExitStatus=2"):
        assert line in TEXT
