"""Two hosts, each with its own copy of the files, one of which is damaged where it is not read at the start.

Only a replica of that expert would be read there. It must be refused on all ranks, with the text as it ought to be.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mixtralkit.cli.main import main
from tests.cli.demo_runs import DEMO
from tests.cli.shell import PATIENCE, environment, torchrun
from tests.netns import two_hosts, why_not

REASON = why_not()
PROMPTS = ("ROMEO:\n", "To be, or not to be, that is the question")
LAYER, EXPERT = 2, 1  # of rank 0; rank 1 has experts 4 to 7
# Every expert of the other rank is worth a replica, and there is room for all.
HOT = ("--placement", "adaptive", "--net-bandwidth", "100kB/s", "--replica-memory", "20MB")


def damaged_copy(folder: Path) -> Path:
    """The demo model with a flipped bit in one expert: a weight of it is 2**64 times as large, or as small."""
    copy = Path(shutil.copytree(DEMO, folder))
    parts = sorted(copy.glob("*.pth-split*"), key=lambda path: int(path.name.rpartition("split")[2]))
    content = b"".join(part.read_bytes() for part in parts)
    whole = folder / "whole.pth"
    whole.write_bytes(content)
    state = torch.load(whole, weights_only=True)
    whole.unlink()
    weight = state[f"layers.{LAYER}.feed_forward.experts.{EXPERT}.w2.weight"]
    raw = weight.view(torch.uint8).numpy().tobytes()
    assert content.count(raw) == 1
    at = content.index(raw) + len(raw) // 2 + 1  # the upper byte of a bfloat16
    for part in parts:
        size = part.stat().st_size
        if at < size:
            changed = bytearray(part.read_bytes())
            changed[at] ^= 0x20
            part.write_bytes(changed)
            break
        at -= size
    return copy


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_a_damaged_replica_is_refused_and_the_text_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = damaged_copy(tmp_path / "copy")
    words = ["--max-tokens", "300", "--report", "json", *PROMPTS]
    assert main(["generate", "-m", str(DEMO), *words]) == 0
    alone = capsys.readouterr().out
    with two_hosts() as hosts:
        processes = [
            host.start(
                torchrun(1, "-m", str(folder), *HOT, *words, options=_options(node, hosts[0].address)),
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for node, (host, folder) in enumerate(zip(hosts, (DEMO, copy), strict=True))
        ]
        try:
            (first, first_err), (_, second_err) = [process.communicate(timeout=PATIENCE) for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert [process.returncode for process in processes] == [0, 0], first_err + second_err
    assert _responses(first) == _responses(alone)
    said = " ".join(first_err.split())
    refused = f"the placement stays as it is: expert {EXPERT} of layer {LAYER} on rank 1 differs from the one on rank 0"
    assert said.count(refused) == 1
    moves = json.loads(first)["report"]["strategies"]["moves"]
    assert moves["replicas_refused"] == 1
    assert moves["replicas_fetched"] > 0  # the others of that batch came with the next


def _responses(document: str) -> Sequence[str]:
    return [completion["response"] for completion in json.loads(document)["completions"]]


def _options(node: int, address: str) -> list[str]:
    return ["--nnodes", "2", "--node_rank", str(node), "--master_addr", address, "--master_port", "29541"]
