"""Small random Mixtral checkpoints in every form, written by the libraries that users' checkpoints come from.

The Hugging Face forms are written by transformers, the others by plain torch.save and the safetensors library, so
that nothing of mixtralkit/checkpoint is compared with itself. Other tests may use `make_checkpoint` too.
"""

import io
import json
from enum import Enum
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from transformers import MixtralForCausalLM

from mixtralkit.config import ModelConfig, to_params_json
from tests.reference.hugging_face import hugging_face_config

TINY = ModelConfig(
    vocab_size=61, dim=16, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=4, hidden_dim=24, num_experts=4, top_k=2
)


class Kind(Enum):
    """Each way a checkpoint comes in."""

    MISTRAL_PTH = "mistral pth"
    SPLIT_PTH = "mistral pth in 11 parts"
    SEVERAL_PTH = "mistral pth in two files"
    MISTRAL_SAFETENSORS = "mistral safetensors"
    STACKED = "stacked pt"
    HF = "hf safetensors, transformers 4 config"
    HF_V5_CONFIG = "hf safetensors, transformers 5 config"
    HF_SHARDED = "hf safetensors, several files"
    HF_FUSED = "hf safetensors, fused experts"


def reference_model(config: ModelConfig, seed: int = 0) -> MixtralForCausalLM:
    """Transformers' float32 model of that shape with random weights, norms included."""
    torch.manual_seed(seed)
    model = MixtralForCausalLM(hugging_face_config(config)).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.25).add_(1.0 if parameter.dim() == 1 else 0.0)
    return model


def make_checkpoint(
    folder: Path, kind: Kind, config: ModelConfig = TINY, seed: int = 0, dtype: torch.dtype = torch.float32
) -> MixtralForCausalLM:
    """Write `reference_model(config, seed)` into `folder`, which is made, in `dtype`; returns that model (float32)."""
    folder.mkdir(parents=True, exist_ok=True)
    model = reference_model(config, seed)
    if kind in (Kind.HF, Kind.HF_V5_CONFIG, Kind.HF_SHARDED, Kind.HF_FUSED):
        _write_hf(folder, kind, model, dtype)
    else:
        state = {name: tensor.to(dtype) for name, tensor in mistral_state(model, config).items()}
        _write_mistral(folder, kind, state, config)
    return model


def mistral_state(model: MixtralForCausalLM, config: ModelConfig) -> dict[str, torch.Tensor]:
    """The weights of `model` under Mistral's names and in its rotary layout, computed here on its own.

    A formula of its own, not the code under test, undoes Hugging Face's split of rotary pairs.
    """
    hf = model.state_dict()
    state = {"tok_embeddings.weight": hf["model.embed_tokens.weight"]}
    for layer in range(config.num_layers):
        ours, theirs = f"layers.{layer}.", f"model.layers.{layer}."
        state[ours + "attention_norm.weight"] = hf[theirs + "input_layernorm.weight"]
        state[ours + "attention.wq.weight"] = _pairs(hf[theirs + "self_attn.q_proj.weight"], config.head_dim)
        state[ours + "attention.wk.weight"] = _pairs(hf[theirs + "self_attn.k_proj.weight"], config.head_dim)
        state[ours + "attention.wv.weight"] = hf[theirs + "self_attn.v_proj.weight"]
        state[ours + "attention.wo.weight"] = hf[theirs + "self_attn.o_proj.weight"]
        state[ours + "ffn_norm.weight"] = hf[theirs + "post_attention_layernorm.weight"]
        state[ours + "feed_forward.gate.weight"] = hf[theirs + "mlp.gate.weight"]
        gate_up, down = hf[theirs + "mlp.experts.gate_up_proj"], hf[theirs + "mlp.experts.down_proj"]
        for expert in range(config.num_experts):
            mlp = f"{ours}feed_forward.experts.{expert}."
            state[mlp + "w1.weight"], state[mlp + "w3.weight"] = gate_up[expert].chunk(2)
            state[mlp + "w2.weight"] = down[expert]
    state["norm.weight"], state["output.weight"] = hf["model.norm.weight"], hf["lm_head.weight"]
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _pairs(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    rows, dim = weight.shape
    return weight.view(rows // head_dim, 2, head_dim // 2, dim).transpose(1, 2).reshape(rows, dim)


def stacked_state(state: dict[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """Mistral's state with the experts of each layer stacked as in the .pt files of the first release."""
    stacked = {name: tensor for name, tensor in state.items() if "feed_forward" not in name}
    for layer in range(config.num_layers):
        old, new = f"layers.{layer}.feed_forward.", f"layers.{layer}.block_sparse_moe."
        stacked[new + "gate.weight"] = state[old + "gate.weight"]
        for matrix in ("w1", "w2", "w3"):
            parts = [state[f"{old}experts.{expert}.{matrix}.weight"] for expert in range(config.num_experts)]
            stacked[new + matrix] = torch.cat([part.t() if matrix == "w2" else part for part in parts]).clone()
    return stacked


def split_file(path: Path, parts: int) -> list[Path]:
    """Replace `path` by parts of equal size (the last smaller), named as `split` would be asked to."""
    content = path.read_bytes()
    size = -(-len(content) // parts)
    names = [path.with_name(f"{path.name}-split{number}") for number in range(parts)]
    for number, name in enumerate(names):
        name.write_bytes(content[number * size : (number + 1) * size])
    path.unlink()
    return names


def _write_mistral(folder: Path, kind: Kind, state: dict[str, torch.Tensor], config: ModelConfig) -> None:
    params = to_params_json(config)
    names = list(state)
    halves = [{name: state[name] for name in names[part::2]} for part in range(2)]
    if kind is Kind.MISTRAL_SAFETENSORS:
        save_file(state, folder / "consolidated.safetensors")
    elif kind is Kind.SEVERAL_PTH:
        for number, half in enumerate(halves):
            torch.save(half, folder / f"consolidated.{number:02d}.pth")
    elif kind is Kind.STACKED:
        stacked = stacked_state(state, config)
        for number in range(3):
            part = {name: stacked[name] for name in list(stacked)[number::3]}
            torch.save(part, folder / f"consolidated.{number:02d}.pt")
        params = hugging_face_config(config).to_dict() | {"rope_theta": config.rope_theta}
    else:
        torch.save(state, folder / "consolidated.00.pth")
        if kind is Kind.SPLIT_PTH:
            split_file(folder / "consolidated.00.pth", 11)
    (folder / "params.json").write_text(json.dumps(params))


def _write_hf(folder: Path, kind: Kind, model: MixtralForCausalLM, dtype: torch.dtype) -> None:
    saved = MixtralForCausalLM(model.config).eval()
    saved.load_state_dict(model.state_dict())
    saved = saved.to(dtype)
    if kind is Kind.HF_FUSED:
        tensors = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
        saved.config.save_pretrained(folder)
    else:
        saved.save_pretrained(folder, max_shard_size="20KB" if kind is Kind.HF_SHARDED else "1GB")
    if kind is Kind.HF:
        _to_v4_config(folder / "config.json")


def _to_v4_config(path: Path) -> None:
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config))


def make_tokenizer(path: Path, pieces: int) -> None:
    """A sentencepiece model of that many pieces, at least 259 of which are unk, BOS, EOS and the bytes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog", "pack my box with five dozen jugs"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=pieces,
        byte_fallback=True,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
