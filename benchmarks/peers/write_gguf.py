"""Writes the shape with random weights for llama.cpp: `python write_gguf.py FOLDER`; needs gguf and numpy."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quants
from shape import (
    CONTEXT,
    DIM,
    EXPERTS,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    NORM_EPS,
    ROPE_THETA,
    TOP_K,
    VOCAB,
)

KINDS = {
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
STD = 0.02
LAYER = {
    "attn_q": (HEADS * HEAD_DIM, DIM),
    "attn_k": (KV_HEADS * HEAD_DIM, DIM),
    "attn_v": (KV_HEADS * HEAD_DIM, DIM),
    "attn_output": (DIM, HEADS * HEAD_DIM),
    "ffn_gate_exps": (EXPERTS, HIDDEN, DIM),
    "ffn_up_exps": (EXPERTS, HIDDEN, DIM),
    "ffn_down_exps": (EXPERTS, DIM, HIDDEN),
}


def header(writer: GGUFWriter, file_type: LlamaFileType) -> None:
    """The shape, in llama.cpp's words."""
    writer.add_file_type(file_type)
    writer.add_vocab_size(VOCAB)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_layer_norm_rms_eps(NORM_EPS)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(TOP_K)


def no_vocabulary(writer: GGUFWriter) -> None:
    """Token ids are all that is timed."""
    writer.add_tokenizer_model("no_vocab")


def write(file: Path, kind: str, vocabulary: Callable[[GGUFWriter], None] = no_vocabulary) -> None:
    """One file, in one of `KINDS`; the gate and the norms are float32, as llama.cpp's own converter has them."""
    quantization, file_type = KINDS[kind]
    generator = np.random.default_rng(0)
    writer = GGUFWriter(str(file), "llama")
    header(writer, file_type)
    vocabulary(writer)

    def add(name: str, *shape: int) -> None:
        weights = generator.standard_normal(shape, dtype=np.float32) * np.float32(STD)
        writer.add_tensor(name, quants.quantize(weights, quantization), raw_dtype=quantization)

    add("token_embd.weight", VOCAB, DIM)
    add("output.weight", VOCAB, DIM)
    writer.add_tensor("output_norm.weight", np.ones(DIM, np.float32))
    for layer in range(LAYERS):
        for name, shape in LAYER.items():
            add(f"blk.{layer}.{name}.weight", *shape)
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(DIM, np.float32))
        gate = generator.standard_normal((EXPERTS, DIM), dtype=np.float32) * np.float32(STD)
        writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", gate)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    for name in KINDS:
        target = Path(sys.argv[1]) / f"{name}.gguf"
        if not target.exists():
            part = target.with_suffix(".part")
            write(part, name)
            part.rename(target)
