"""Writes a checkpoint in one of the forms that formats.py knows."""

import glob
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mixtralkit.checkpoint.formats import Form
from mixtralkit.checkpoint.names import Naming
from mixtralkit.checkpoint.safetensors_writer import TensorSpec, write_safetensors
from mixtralkit.checkpoint.stored_state import StoredState
from mixtralkit.config import ModelConfig, to_params_json

CHUNK = 8 * 1024 * 1024
NAMINGS = {
    Form.MISTRAL_PTH: Naming.MISTRAL,
    Form.MISTRAL_SAFETENSORS: Naming.MISTRAL,
    Form.HF_SAFETENSORS: Naming.HF,
    Form.STACKED_PT: Naming.STACKED,
}
FILES = {
    Form.MISTRAL_PTH: "consolidated.00.pth",
    Form.MISTRAL_SAFETENSORS: "consolidated.safetensors",
    Form.HF_SAFETENSORS: "model.safetensors",
    Form.STACKED_PT: "consolidated.00.pt",
}


def write_checkpoint(
    state: Mapping[str, torch.Tensor],
    config: ModelConfig,
    folder: Path | str,
    form: Form,
    *,
    dtype: torch.dtype | None = None,
    part_bytes: int | None = None,
) -> Path:
    """Write the weights and params.json or config.json into `folder`, which is made; returns the file of the weights.

    `state` has every canonical name; a mapping that reads its tensors only when asked keeps memory small with
    safetensors. `dtype` None keeps that of the embedding. With `part_bytes` the file is left as `-split` parts of that
    many bytes and the path is that of the whole that they make. A file appears only when it is complete.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dtype = dtype or state["tok_embeddings.weight"].dtype
    stored = StoredState(state, config, NAMINGS[form])
    path = folder / FILES[form]
    if path.suffix == ".safetensors":
        specs = {name: TensorSpec(dtype, shape) for name, shape in stored.shapes.items()}
        _replace(path, lambda partial: write_safetensors(partial, specs, lambda name: stored.read(name, dtype)))
    else:
        tensors = {name: _alone(stored.read(name, dtype)) for name in stored.shapes}
        _replace(path, lambda partial: torch.save(tensors, partial))
    if part_bytes is not None:
        split_file(path, part_bytes)
    name, content = _description(config, form, dtype)
    _replace(folder / name, lambda partial: _write_json(partial, content))
    return path


def split_file(path: Path, part_bytes: int) -> tuple[Path, ...]:
    """Replace the file at `path` by `-split0`, `-split1`, ... of `part_bytes` bytes, the last of what remains.

    Parts of an earlier, larger file of that name are removed.
    """
    if part_bytes < 1:
        raise ValueError(f"part_bytes is {part_bytes}; at least one byte must go into a part")
    size = path.stat().st_size
    names = [path.with_name(f"{path.name}-split{number}") for number in range(-(-size // part_bytes))]
    with path.open("rb") as whole:
        for name in names:
            with name.open("wb") as part:
                for begin in range(0, part_bytes, CHUNK):
                    part.write(whole.read(min(CHUNK, part_bytes - begin)))
    path.unlink()
    for stale in {*path.parent.glob(f"{glob.escape(path.name)}-split*")} - {*names}:
        stale.unlink()
    return tuple(names)


def to_config_json(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Hugging Face's config.json, as transformers 4 writes it and 5 reads it."""
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.hidden_dim,
        "num_local_experts": config.num_experts,
        "num_experts_per_tok": config.top_k,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.context,
        "sliding_window": config.sliding_window,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _description(config: ModelConfig, form: Form, dtype: torch.dtype) -> tuple[str, dict[str, Any]]:
    if form is Form.HF_SAFETENSORS:
        return "config.json", to_config_json(config, dtype)
    return "params.json", to_config_json(config, dtype) if form is Form.STACKED_PT else to_params_json(config)


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` with a storage of its own: torch.save writes whole storages."""
    return tensor.clone() if tensor.untyped_storage().nbytes() != tensor.nbytes else tensor


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)
