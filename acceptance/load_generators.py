"""guidellm and aiperf: short runs, in which every request must succeed and have the tokens that were asked for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acceptance.demo_server import DEMO, MODEL, TOKENIZER
from acceptance.finding import Finding
from acceptance.programs import Program

REQUESTS, AT_A_TIME, INPUT, OUTPUT = 32, 4, 64, 32


def guidellm(program: Program, url: str) -> Iterator[Finding]:
    """Chat at a fixed concurrency and completions at a Poisson rate, both streamed."""
    variables = _with_tokenizer(program)
    for name, profile, route in (
        ("chat, 4 at a time", f"kind=concurrent,streams={AT_A_TIME}", "/v1/chat/completions"),
        ("completions, Poisson", "kind=poisson,rate=8", "/v1/completions"),
    ):
        report = program.folder.absolute() / f"{route.replace('/', '-')}.json"
        program.run(
            *("guidellm", "run", "--disable-progress", "--profile", profile),
            *("--backend", f"kind=openai_http,target={url},model={MODEL},request_format={route}"),
            *("--constraint", f"kind=max_requests,count={REQUESTS}"),
            *("--tokenizer", f"kind=huggingface_auto,model={TOKENIZER}"),
            *("--data", f"kind=synthetic_text,prompt_tokens={INPUT},output_tokens={OUTPUT}"),
            *("--output", f"kind=json,path={report}"),
            **variables,
        )
        yield _of_guidellm(name, _read(report))


def aiperf(program: Program, url: str) -> Iterator[Finding]:
    """Completions and chat, streamed; it also reads /metrics by itself."""
    variables = _with_tokenizer(program)
    for kind in ("completions", "chat"):
        folder = program.folder.absolute() / kind
        program.run(
            *("aiperf", "profile", "--model", MODEL, "--url", url, "--endpoint-type", kind, "--streaming"),
            *("--tokenizer", TOKENIZER, "--ui", "none", "--random-seed", "1", "--artifact-dir", str(folder)),
            *("--concurrency", str(AT_A_TIME), "--request-count", str(REQUESTS)),
            *("--isl", str(INPUT), "--osl", str(OUTPUT), "--extra-inputs", "ignore_eos:true"),
            **variables,
        )
        yield _of_aiperf(kind, _read(folder / "profile_export_aiperf.json"))
    names = [name for name in _read(folder / "server_metrics_export.json")["metrics"] if name.startswith("mixtralkit:")]
    yield Finding("/metrics, as it reads them", len(names) > 10, f"{len(names)} of mixtralkit's")


def _with_tokenizer(program: Program) -> dict[str, str]:
    """The variables with which the client finds the demo's tokenizer, which is made for it."""
    cache = program.folder.absolute() / "hub"
    program.module("tokenizer_folder", str(DEMO / "tokenizer.model"), str(cache))
    return {"HF_HUB_CACHE": str(cache)}


def _of_guidellm(name: str, report: dict[str, Any]) -> Finding:
    figures = report["benchmarks"][0]["metrics"]
    ended = figures["request_totals"]
    tokens = figures["output_token_count"]["successful"]
    first = figures["time_to_first_token_ms"]["successful"]["median"]
    good = ended["successful"] == ended["total"] == REQUESTS and tokens["min"] == tokens["max"] == OUTPUT
    found = f"{ended['successful']} of {ended['total']} requests, {tokens['min']:g} to {tokens['max']:g} tokens each"
    return Finding(name, good, f"{found}; first token after {first:.0f} ms")


def _of_aiperf(kind: str, report: dict[str, Any]) -> Finding:
    tokens, count = report["usage_completion_tokens"], report["request_count"]["avg"]
    good = count == REQUESTS and not report["error_summary"] and tokens["min"] == tokens["max"] == OUTPUT
    found = f"{count:g} of {REQUESTS} requests, {tokens['min']:g} to {tokens['max']:g} tokens each"
    return Finding(kind, good, f"{found}; first token after {report['time_to_first_token']['p50']:.0f} ms")


def _read(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report
