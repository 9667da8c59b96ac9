"""Compares the dispatches between nodes of several ranks: round trips by number of tokens, and bytes between nodes.

    python -m benchmarks.nodes [--layouts 2x2,2x4] [--links none,1gbit,100mbit] [--tokens 1,8,32,128] [--seconds 2]

Nodes are network namespaces joined by links of a rate, which needs Linux and root; all share this machine's cores.
Prints Markdown.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.nodes.ranks import DISPATCHES
from benchmarks.strategies.command_line import count, each, rate
from tests.netns import Host, hosts, why_not

ROOT = Path(__file__).parents[2]
RANKS = str(ROOT / "benchmarks" / "nodes" / "ranks.py")
PORT, PATIENCE = 29560, 900.0
NO_LIMIT = "none"


def layout(text: str) -> tuple[int, int]:
    """Nodes and ranks of each, such as 2x4."""
    nodes, _, ranks = text.partition("x")
    return count(nodes), count(ranks)


def link(text: str) -> str | None:
    """A rate, or none for a link without a limit."""
    return None if text == NO_LIMIT else rate(text)


def measure(nodes: int, ranks: int, limit: str | None, words: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of one setting; raises `RuntimeError` when it fails."""
    with hosts(nodes, limit) as group:
        processes = [_start(group, node, ranks, words) for node in range(nodes)]
        try:
            outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{nodes} nodes of {ranks} ranks failed:\n" + "\n".join(outputs))
    return [json.loads(line) for line in outputs[0].splitlines() if line.startswith("{")]


def _start(group: Sequence[Host], node: int, ranks: int, words: Sequence[str]) -> "subprocess.Popen[str]":
    where = ["--nnodes", str(len(group)), "--node_rank", str(node), "--nproc_per_node", str(ranks)]
    master = ["--master_addr", group[0].address, "--master_port", str(PORT)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "torch.distributed.run", *where, *master, RANKS, *words]
    return group[node].start(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def table(figures: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each number of tokens: milliseconds (least-most), those of all ranks' CPU time, MB between nodes."""
    heads = [f"{name} ms (min-max) | CPU ms | MB" for name in DISPATCHES]
    lines = [f"| tokens a rank | {' | '.join(heads)} |", "|---" * (1 + 3 * len(DISPATCHES)) + "|"]
    for tokens in dict.fromkeys(figure["tokens_per_rank"] for figure in figures):
        by_name = {figure["dispatch"]: figure for figure in figures if figure["tokens_per_rank"] == tokens}
        lines.append(f"| {tokens} | {' | '.join(_cells(by_name[name]) for name in DISPATCHES)} |")
    return lines


def _cells(figure: dict[str, Any]) -> str:
    median, least, most = figure["milliseconds"]
    cpu = figure["cpu_milliseconds"]
    return f"{median:.1f} ({least:.1f}-{most:.1f}) | {cpu:.1f} | {figure['bytes_between_nodes'] / 1e6:.3f}"


def main() -> None:
    """Measure all settings and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--layouts", type=each(layout), default=((2, 2), (2, 4)))
    parser.add_argument("--links", type=each(link), default=(None, "1gbit", "100mbit"))
    parser.add_argument("--tokens", type=each(count), default=(1, 8, 32, 128))
    parser.add_argument("--shape", type=each(count), default=(4096, 8, 2), help="width, experts, top-k")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each dispatch and number of tokens")
    options = parser.parse_args()
    words = [str(number) for number in (*options.shape, options.seconds, *options.tokens)]
    width, experts, top_k = options.shape
    print(f"width {width} (float32), {experts} experts, top {top_k}; {os.cpu_count()} cores for all ranks; ", end="")
    print(f"torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    for limit in options.links:
        if (problem := why_not(limit)) is not None:
            sys.exit(f"python -m benchmarks.nodes: {problem}")
        for nodes, ranks in options.layouts:
            print(f"\n## {nodes} nodes of {ranks} ranks, {limit or 'no limit'}\n", flush=True)
            print("\n".join(table(measure(nodes, ranks, limit, words))), flush=True)


if __name__ == "__main__":
    main()
