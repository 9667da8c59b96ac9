"""What the tensors are called, shaped and laid out in the checkpoints found in the wild, as tables.

Canonical names are Mistral's, and those of the modules of model/transformer.py. recipes.py makes use of the tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Naming(Enum):
    """Who named the tensors."""

    MISTRAL = "Mistral's names"
    STACKED = "stacked experts"
    HF = "Hugging Face's names"
    HF_FUSED = "Hugging Face's names, fused experts"


class Transform(Enum):
    """How a stored matrix differs from ours."""

    NONE = "as it is"
    TRANSPOSED = "transposed"
    HALVES = "the two halves of a head, not neighbouring rows, are rotated together"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its name, its shape in the letters of `recipes.dimensions`, and how it differs from ours.

    With `block` it holds all experts: seen as a matrix, expert e's part begins at row e * `block` + `start`.
    """

    name: str
    shape: tuple[str, ...]
    transform: Transform = Transform.NONE
    block: str | None = None
    start: str | None = None


_LAYER = "layers.{layer}."
EXPERT = "layers.{layer}.feed_forward.experts.{expert}."
_GATE = "layers.{layer}.feed_forward.gate.weight"

# Canonical name -> shape.
CANONICAL: Mapping[str, tuple[str, ...]] = {
    "tok_embeddings.weight": ("V", "D"),
    _LAYER + "attention_norm.weight": ("D",),
    _LAYER + "attention.wq.weight": ("Q", "D"),
    _LAYER + "attention.wk.weight": ("K", "D"),
    _LAYER + "attention.wv.weight": ("K", "D"),
    _LAYER + "attention.wo.weight": ("D", "Q"),
    _LAYER + "ffn_norm.weight": ("D",),
    _GATE: ("E", "D"),
    EXPERT + "w1.weight": ("F", "D"),
    EXPERT + "w2.weight": ("D", "F"),
    EXPERT + "w3.weight": ("F", "D"),
    "norm.weight": ("D",),
    "output.weight": ("V", "D"),
}

# The experts stacked, everything else as Mistral has it (consolidated.00.pt ... of the first release).
_STACKED_MOE = "layers.{layer}.block_sparse_moe."
_STACKED = {
    _GATE: Stored(_STACKED_MOE + "gate.weight", ("E", "D")),
    EXPERT + "w1.weight": Stored(_STACKED_MOE + "w1", ("E*F", "D"), block="F"),
    EXPERT + "w2.weight": Stored(_STACKED_MOE + "w2", ("E*F", "D"), Transform.TRANSPOSED, block="F"),
    EXPERT + "w3.weight": Stored(_STACKED_MOE + "w3", ("E*F", "D"), block="F"),
}

_HF_LAYER = "model.layers.{layer}."
_HF_EXPERT = "model.layers.{layer}.block_sparse_moe.experts.{expert}."
_HF = {
    "tok_embeddings.weight": Stored("model.embed_tokens.weight", ("V", "D")),
    _LAYER + "attention_norm.weight": Stored(_HF_LAYER + "input_layernorm.weight", ("D",)),
    _LAYER + "attention.wq.weight": Stored(_HF_LAYER + "self_attn.q_proj.weight", ("Q", "D"), Transform.HALVES),
    _LAYER + "attention.wk.weight": Stored(_HF_LAYER + "self_attn.k_proj.weight", ("K", "D"), Transform.HALVES),
    _LAYER + "attention.wv.weight": Stored(_HF_LAYER + "self_attn.v_proj.weight", ("K", "D")),
    _LAYER + "attention.wo.weight": Stored(_HF_LAYER + "self_attn.o_proj.weight", ("D", "Q")),
    _LAYER + "ffn_norm.weight": Stored(_HF_LAYER + "post_attention_layernorm.weight", ("D",)),
    _GATE: Stored(_HF_LAYER + "block_sparse_moe.gate.weight", ("E", "D")),
    EXPERT + "w1.weight": Stored(_HF_EXPERT + "w1.weight", ("F", "D")),
    EXPERT + "w2.weight": Stored(_HF_EXPERT + "w2.weight", ("D", "F")),
    EXPERT + "w3.weight": Stored(_HF_EXPERT + "w3.weight", ("F", "D")),
    "norm.weight": Stored("model.norm.weight", ("D",)),
    "output.weight": Stored("lm_head.weight", ("V", "D")),
}

# transformers 5 inside; a block of gate_up_proj is the expert's w1, then its w3.
_HF_MLP = "model.layers.{layer}.mlp."
_HF_FUSED = {
    **_HF,
    _GATE: Stored(_HF_MLP + "gate.weight", ("E", "D")),
    EXPERT + "w1.weight": Stored(_HF_MLP + "experts.gate_up_proj", ("E", "2*F", "D"), block="2*F"),
    EXPERT + "w2.weight": Stored(_HF_MLP + "experts.down_proj", ("E", "D", "F"), block="D"),
    EXPERT + "w3.weight": Stored(_HF_MLP + "experts.gate_up_proj", ("E", "2*F", "D"), block="2*F", start="F"),
}

_MISTRAL = {name: Stored(name, shape) for name, shape in CANONICAL.items()}

# Canonical name -> the tensor that it is in, or is part of.
TABLES: Mapping[Naming, Mapping[str, Stored]] = {
    Naming.MISTRAL: _MISTRAL,
    Naming.STACKED: {**_MISTRAL, **_STACKED},
    Naming.HF: _HF,
    Naming.HF_FUSED: _HF_FUSED,
}

# Tensors that follow from the configuration; some writers store them all the same.
DERIVED_SUFFIXES = ("rotary_emb.inv_freq", "rope.freqs")
