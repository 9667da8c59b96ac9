"""The model's files for each server: the 791 M shape with random weights, in bfloat16, made once in the work folder."""

import json
import shutil
import subprocess
from pathlib import Path

import torch

from benchmarks.peers.shape import hugging_face_config
from benchmarks.serving.vocabulary import write_vocabulary
from mixtralkit.bench.random_weights import random_model
from mixtralkit.bench.shapes import MIXTRAL_791M
from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.writer import write_checkpoint


def our_folder(work: Path) -> Path:
    """A checkpoint with its tokenizer."""
    folder = work / "mixtralkit-791m"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        model = random_model(MIXTRAL_791M, dtype=torch.bfloat16, device=torch.device("cpu"))
        write_checkpoint(model.state_dict(), MIXTRAL_791M, part, Form.MISTRAL_SAFETENSORS)
        shutil.copyfile(write_vocabulary(work / "vocabulary") / "tokenizer.model", part / "tokenizer.model")
        part.rename(folder)
    return folder


def gguf_file(work: Path, python: Path) -> Path:
    """A file for llama.cpp's server, written by the Python that has gguf."""
    file = work / "791m-bf16.gguf"
    if not file.exists():
        pieces = write_vocabulary(work / "vocabulary") / "pieces.json"
        script = Path(__file__).with_name("gguf_with_vocabulary.py")
        subprocess.run([str(python), str(script), str(pieces), str(file)], check=True)
    return file


def vllm_folder(work: Path) -> Path:
    """A folder with config.json and a tokenizer; vLLM makes random weights itself."""
    folder = work / "vllm-791m"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hugging_face_config()), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(write_vocabulary(work / "vocabulary") / name, folder / name)
    return folder
