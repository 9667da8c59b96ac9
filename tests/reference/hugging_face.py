"""transformers' MixtralForCausalLM with the weights of a dict of Mistral's names."""

import torch
import transformers

from mixtralkit.config import ModelConfig
from tests.reference.mixtral import Weights


def hugging_face_model(weights: Weights, config: ModelConfig) -> torch.nn.Module:
    """A float32 model; wq and wk are permuted from Mistral's rotary layout (neighbouring pairs) to theirs (halves)."""
    model = transformers.MixtralForCausalLM(hugging_face_config(config)).eval()
    model.load_state_dict(renamed(weights, config), strict=True)
    return model


def hugging_face_config(config: ModelConfig) -> transformers.MixtralConfig:
    """The same shape in transformers 5's words."""
    return transformers.MixtralConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        intermediate_size=config.hidden_dim,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_local_experts=config.num_experts,
        num_experts_per_tok=config.top_k,
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        max_position_embeddings=config.context,
        sliding_window=config.sliding_window,
        attn_implementation="eager",
        experts_implementation="eager",  # the others want sizes that are multiples of 16 bytes
    )


def renamed(weights: Weights, config: ModelConfig) -> dict[str, torch.Tensor]:
    """The weights under the names of transformers 5's modules, the experts of a layer stacked."""
    found = {
        "model.embed_tokens.weight": weights["tok_embeddings.weight"],
        "model.norm.weight": weights["norm.weight"],
        "lm_head.weight": weights["output.weight"],
    }
    for layer in range(config.num_layers):
        ours, theirs = f"layers.{layer}.", f"model.layers.{layer}."
        found[theirs + "input_layernorm.weight"] = weights[ours + "attention_norm.weight"]
        found[theirs + "post_attention_layernorm.weight"] = weights[ours + "ffn_norm.weight"]
        wq, wk = weights[ours + "attention.wq.weight"], weights[ours + "attention.wk.weight"]
        found[theirs + "self_attn.q_proj.weight"] = halves(wq, config.num_heads)
        found[theirs + "self_attn.k_proj.weight"] = halves(wk, config.num_kv_heads)
        found[theirs + "self_attn.v_proj.weight"] = weights[ours + "attention.wv.weight"]
        found[theirs + "self_attn.o_proj.weight"] = weights[ours + "attention.wo.weight"]
        found[theirs + "mlp.gate.weight"] = weights[ours + "feed_forward.gate.weight"]
        w1, w2, w3 = (
            torch.stack([weights[f"{ours}feed_forward.experts.{e}.{w}.weight"] for e in range(config.num_experts)])
            for w in ("w1", "w2", "w3")
        )
        found[theirs + "mlp.experts.gate_up_proj"] = torch.cat((w1, w3), dim=1)
        found[theirs + "mlp.experts.down_proj"] = w2
    return found


def halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Within each head, the rows 0, 2, 4, ... first, then 1, 3, 5, ..."""
    rows = weight.shape[0] // heads
    order = [head * rows + i for head in range(heads) for start in (0, 1) for i in range(start, rows, 2)]
    return weight[order]
