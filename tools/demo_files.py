"""The files of the demo checkpoint, and what concerns the machine that makes them."""

import ctypes
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.writer import write_checkpoint
from mixtralkit.model.transformer import Transformer

PART_BYTES = 9 * 128 * 1024  # makes twelve parts, so that the order of 2 and 10 matters
RECORD = "training.json"


def write(folder: Path, model: Transformer, tokenizer: Path, record: dict[str, Any]) -> None:
    """Write params.json, the weights in bfloat16 as `-split` parts, tokenizer.model and training.json."""
    write_checkpoint(
        model.state_dict(), model.config, folder, Form.MISTRAL_PTH, dtype=torch.bfloat16, part_bytes=PART_BYTES
    )
    shutil.copyfile(tokenizer, folder / "tokenizer.model")
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def hardware() -> str:
    """The processor and the number of cores, as the system names them."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if platform.system() == "Linux" else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks for the next step: returning them took half of the training's time."""
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
