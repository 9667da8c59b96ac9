"""Peak memory of a rank at 1, 2 and 4 ranks, for a checkpoint of more than a gigabyte.

    python benchmarks/memory.py

Writes a random model of the 791 M shape (dim 1024, 8 layers, 8 experts, with the demo model's vocabulary: 1.5 GB in
bfloat16) to a temporary folder, runs the main job on it in the file's own dtype, where weights stay in the mapped
file, and in float32, where each rank converts its share, and prints each rank's share and peak as Markdown. The peak
counts mapped pages, which ranks of a host have in common.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mixtralkit.bench.random_weights import random_model
from mixtralkit.bench.shapes import MIXTRAL_791M
from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.writer import write_checkpoint

ROOT = Path(__file__).parent.parent
TOKENIZER = ROOT / "demo" / "shakespeare" / "tokenizer.model"
SHAPE = dataclasses.replace(MIXTRAL_791M, vocab_size=3072, context=512)
BYTES = {"auto": 2, "float32": 4}


def write_random_checkpoint(folder: Path) -> None:
    """A model of `SHAPE` with random weights, in bfloat16."""
    state = random_model(SHAPE, dtype=torch.bfloat16, device=torch.device("cpu")).state_dict()
    write_checkpoint(state, SHAPE, folder, Form.MISTRAL_PTH)


def run(folder: Path, world_size: int, dtype: str) -> dict[str, Any]:
    """The report of one run."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world_size}"]
    command += [str(ROOT / "tools" / "example.py"), "-m", str(folder), "-t", str(TOKENIZER)]
    command += ["--dtype", dtype, "--max-tokens", "4", "--report", "json", "Now is the winter of our discontent"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout)["report"]
    return report


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_random_checkpoint(folder)
        file_size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{time.strftime('%Y-%m-%d')}, torch {torch.__version__}, checkpoint of {file_size / 1e9:.2f} GB\n")
        print("| dtype | ranks | rank | its share (MB) | peak memory (MB) | peak - share (MB) |")
        print("|---|---|---|---|---|---|")
        for dtype, itemsize in BYTES.items():
            for world_size in (1, 2, 4):
                for rank in run(folder, world_size, dtype)["ranks"]:
                    absent = SHAPE.num_layers * (SHAPE.num_experts - len(rank["experts"])) * SHAPE.expert_params
                    share, peak = (SHAPE.num_params - absent) * itemsize / 1e6, rank["peak_memory_bytes"] / 1e6
                    cells = [dtype, world_size, rank["rank"], f"{share:,.0f}", f"{peak:,.0f}", f"{peak - share:,.0f}"]
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
