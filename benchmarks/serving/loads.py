"""What is asked of each server: a load, and prompts that begin alike; by `mixtralkit bench serve`."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.shape import VOCAB
from benchmarks.serving.contenders import CONCURRENCY

PREFIX, OWN = 512, 16
PAIRS = 3  # of a prompt whose beginning is new, and one whose beginning is not


@dataclass(frozen=True)
class Load:
    """How many requests of which lengths, in tokens."""

    requests: int = 32
    input_tokens: int = 64
    output_tokens: int = 64


def bench_serve(url: str, *words: str) -> dict[str, Any]:
    """The document of a load test; raises `RuntimeError` when a request failed or an answer was too short."""
    command = [sys.executable, "-m", "mixtralkit.cli.main", "bench", "serve", f"--url={url}", "--json=-"]
    done = subprocess.run(
        [*command, f"--vocab-size={VOCAB}", *words], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False
    )
    document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"figures": {}, "first_errors": "above"}
    figures = document["figures"]
    if done.returncode or figures["failed"] or figures["short"] or figures["uncounted"]:
        raise RuntimeError(f"bench serve {' '.join(words)}: {document['first_errors'] or figures}")
    return document


def under_load(url: str, load: Load, seed: int) -> dict[str, Any]:
    """The figures of the load; one of the same size warms the server up before."""
    words = (
        f"--requests={load.requests}",
        f"--concurrency={CONCURRENCY}",
        f"--input-tokens={load.input_tokens}",
        f"--output-tokens={load.output_tokens}",
        f"--warm-up={min(load.requests, CONCURRENCY)}",
        f"--seed={seed}",
    )
    figures: dict[str, Any] = bench_serve(url, *words)["figures"]
    return figures


def prefix_seconds(url: str, seed: int) -> list[tuple[float, float]]:
    """Seconds to the first token of two requests, one after the other, whose prompts begin alike; for each of some."""
    words = ("--requests=2", "--concurrency=1", f"--shared-prefix={PREFIX}", f"--input-tokens={OWN}")
    pairs = []
    for number in range(PAIRS):
        document = bench_serve(url, *words, "--output-tokens=2", "--warm-up=0", f"--seed={seed * PAIRS + number}")
        cold, warm = (request["first"] for request in document["requests"])
        pairs.append((cold, warm))
    return pairs
