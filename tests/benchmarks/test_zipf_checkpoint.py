"""The checkpoint whose experts are as popular as Zipf's law says: what was wanted is what mixtralkit's gate does."""

from pathlib import Path

import pytest
import torch

import mixtralkit
from benchmarks.zipf_checkpoint import comparison, found_shares, write_zipf_checkpoint
from benchmarks.zipf_routing import zipf_shares
from mixtralkit.config import ModelConfig

SHAPE = ModelConfig(
    vocab_size=1,  # the tokenizer decides
    dim=256,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    hidden_dim=128,
    num_experts=8,
    top_k=2,
    context=256,
)


def test_shares_follow_the_law_as_far_as_top_k_can() -> None:
    assert zipf_shares(4, 2, 1.0) == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25])
    assert zipf_shares(8, 2, 0.0) == [1 / 8] * 8
    with pytest.raises(ValueError, match="one expert would get 65% of the rows.*50% is the most"):
        zipf_shares(8, 2, 2.0)


def test_the_model_routes_as_wanted_and_never_ends_a_response(tmp_path: Path) -> None:
    """Of 512 tokens: the share of an expert that half of them choose has a standard deviation of 1.1 %; 5 % pass."""
    wanted = write_zipf_checkpoint(tmp_path, SHAPE)
    found = found_shares(tmp_path)
    assert all(sorted(shares) == sorted(wanted[0]) for shares in wanted)
    assert wanted[0] != wanted[1]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=0, atol=0.05)
    model, tokenizer = mixtralkit.load(tmp_path)
    logits_V = model(torch.tensor([[tokenizer.bos_id, 100, 200]]))[0, -1]
    control = [tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id]
    assert logits_V[control].max() < logits_V.max() - 20
    assert len(comparison(wanted, found)) == 2 + SHAPE.num_layers
