"""The files that the contenders read, of the same shape: made once in the work folder."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from shape import hugging_face_config

from mixtralkit.bench.random_weights import random_model
from mixtralkit.bench.shapes import MIXTRAL_791M
from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.writer import write_checkpoint

HERE = Path(__file__).parent
OURS = ("bf16", "int8", "int4")
GGUF = ("bf16", "q8_0", "q4_0")


def our_checkpoints(work: Path) -> dict[str, Path]:
    """A folder for each of `OURS`; the quantized ones are converted from the first."""
    folders = {kind: work / "ours" / kind for kind in OURS}
    wide = folders["bf16"]
    if not wide.exists():
        part = wide.with_suffix(".part")
        part.mkdir(parents=True)
        model = random_model(MIXTRAL_791M, dtype=torch.bfloat16, device=torch.device("cpu"))
        write_checkpoint(model.state_dict(), MIXTRAL_791M, part, Form.MISTRAL_SAFETENSORS)
        part.rename(wide)
    for kind in OURS[1:]:
        if not folders[kind].exists():
            command = [sys.executable, "-m", "mixtralkit.cli.main", "convert", "-m", str(wide)]
            subprocess.run([*command, "--quantize", kind, "--output", str(folders[kind])], check=True)
    return folders


def gguf_files(work: Path, python: Path) -> dict[str, Path]:
    """A file for each of `GGUF`, written by the Python that has gguf."""
    folder = work / "gguf"
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(python), str(HERE / "write_gguf.py"), str(folder)], check=True)
    return {kind: folder / f"{kind}.gguf" for kind in GGUF}


def vllm_folder(work: Path) -> Path:
    """A folder with config.json, which is all that vLLM needs to make random weights."""
    folder = work / "config"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hugging_face_config()), encoding="utf-8")
    return folder
