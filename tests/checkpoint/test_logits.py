"""Logits of a loaded checkpoint against transformers' MixtralForCausalLM, in every form and for odd shapes.

Both sides compute in float32 and differ in the order of additions only: 1e-5 is some ten times the difference that is
seen for logits of this size, and a thousandth of what the wrong readings below cause.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import MixtralForCausalLM

from mixtralkit.checkpoint.loader import load_model
from mixtralkit.model import moe_ffn
from mixtralkit.ops.gate import topk_gate
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint, mistral_state, reference_model

CPU = torch.device("cpu")
SHAPES = {
    "plain": TINY,
    "three experts": dataclasses.replace(TINY, num_experts=3),
    "top 1": dataclasses.replace(TINY, top_k=1),
    "top 3": dataclasses.replace(TINY, top_k=3),
    "head_dim is not dim/heads": dataclasses.replace(TINY, head_dim=10),
    "one KV head": dataclasses.replace(TINY, num_kv_heads=1),
    "theta 1e4": dataclasses.replace(TINY, rope_theta=1e4),
    "window": dataclasses.replace(TINY, sliding_window=4),
    "odd sizes": dataclasses.replace(TINY, dim=20, hidden_dim=13, vocab_size=37, num_experts=5, head_dim=6),
}


def largest_difference(folder: Path, reference: MixtralForCausalLM) -> float:
    """Between our logits and the reference's for a few random prompts."""
    model = load_model(folder, dtype=torch.float32, device=CPU)
    tokens_BT = torch.randint(0, model.config.vocab_size, (3, 11), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return float((model(tokens_BT) - reference(tokens_BT).logits).abs().max())


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_transformers(tmp_path: Path, kind: Kind, shape: str) -> None:
    reference = make_checkpoint(tmp_path, kind, SHAPES[shape], seed=len(shape))
    assert largest_difference(tmp_path, reference) < 1e-5


@pytest.mark.parametrize("value", ["null", "None", "", "4"])
def test_window_given_as_a_string_in_the_stacked_form(tmp_path: Path, value: str) -> None:
    config = dataclasses.replace(TINY, sliding_window=4 if value == "4" else None)
    reference = make_checkpoint(tmp_path, Kind.STACKED, config)
    params = json.loads((tmp_path / "params.json").read_text())
    (tmp_path / "params.json").write_text(json.dumps(params | {"sliding_window": value}))
    assert largest_difference(tmp_path, reference) < 1e-5


def test_tied_embeddings_of_hugging_face(tmp_path: Path) -> None:
    """With tie_word_embeddings transformers writes no lm_head."""
    model = reference_model(TINY)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path)
    assert largest_difference(tmp_path, model) < 1e-5


def _unpermuted(folder: Path, reference: MixtralForCausalLM) -> None:
    """Mistral's file with Hugging Face's rotary layout in it."""
    state = mistral_state(reference, TINY)
    for layer in range(TINY.num_layers):
        for ours, theirs in (("wq", "q_proj"), ("wk", "k_proj")):
            weight = reference.state_dict()[f"model.layers.{layer}.self_attn.{theirs}.weight"]
            state[f"layers.{layer}.attention.{ours}.weight"] = weight
    torch.save(state, folder / "consolidated.00.pth")


def _theta_1e4(folder: Path, reference: MixtralForCausalLM) -> None:
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(params | {"rope_theta": 1e4}))


@pytest.mark.parametrize("spoil", [_unpermuted, _theta_1e4])
def test_a_wrong_reading_is_caught(tmp_path: Path, spoil: Callable[[Path, MixtralForCausalLM], None]) -> None:
    """The comparison above is worth something: these readings print text too."""
    reference = make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    spoil(tmp_path, reference)
    assert largest_difference(tmp_path, reference) > 1e-2


def test_a_second_softmax_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(logits_TE: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
        expert_ids_TK, weights_TK = topk_gate(logits_TE, top_k)
        return expert_ids_TK, weights_TK.softmax(-1)

    monkeypatch.setattr(moe_ffn, "topk_gate", twice)
    reference = make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    assert largest_difference(tmp_path, reference) > 1e-2
