"""The summary's numbers, counted by hand from transformers' model."""

from pathlib import Path

import pytest
import torch

from mixtralkit.checkpoint.checkpoint_summary import RankShare, summarize, with_placements
from mixtralkit.checkpoint.manifest import write_manifest
from mixtralkit.checkpoint.verify import verify
from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.plan import Placement
from tests.checkpoint.make_checkpoints import TINY, Kind, make_checkpoint

EXPERT = 2 * 3 * 16 * 24  # parameters of one expert in both layers


@pytest.mark.parametrize("kind", [Kind.SPLIT_PTH, Kind.HF_FUSED, Kind.STACKED])
def test_sizes_and_shares(tmp_path: Path, kind: Kind) -> None:
    reference = make_checkpoint(tmp_path, kind, dtype=torch.bfloat16)
    parameters = sum(parameter.numel() for parameter in reference.parameters())
    found = summarize(tmp_path, 3)
    assert (found.num_params, found.nbytes, found.dtype) == (parameters, 2 * parameters, torch.bfloat16)
    assert found.num_active_params == parameters - 2 * EXPERT
    assert found.expert_nbytes == 2 * EXPERT
    shared = 2 * (parameters - 4 * EXPERT)
    assert found.shared_nbytes == shared
    assert found.ranks == (
        RankShare(0, (0, 1), shared + 4 * EXPERT),
        RankShare(1, (2,), shared + 2 * EXPERT),
        RankShare(2, (3,), shared + 2 * EXPERT),
    )
    assert found.config == TINY


def test_says_what_it_is(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "split", Kind.SPLIT_PTH)
    split = summarize(tmp_path / "split")
    assert (split.form, split.naming) == ("Mistral .pth in split parts", "Mistral's names")
    assert split.checksums == "the zip's CRC-32"
    make_checkpoint(tmp_path / "hf", Kind.HF_FUSED)
    assert summarize(tmp_path / "hf").naming == "Hugging Face's names, fused experts"
    assert summarize(tmp_path / "hf").checksums.startswith("none: a flipped bit would go unnoticed")
    write_manifest(tmp_path / "hf")
    assert summarize(tmp_path / "hf").checksums == "SHA256SUMS"


def test_a_pth_saved_without_checksums_is_read(tmp_path: Path) -> None:
    """Torch then writes 0 for each CRC-32; that is no damage, but no protection either."""
    torch.serialization.set_crc32_options(False)
    try:
        make_checkpoint(tmp_path, Kind.MISTRAL_PTH)
    finally:
        torch.serialization.set_crc32_options(True)
    assert verify(tmp_path) == []
    assert summarize(tmp_path).checksums.startswith("none")


def test_more_ranks_than_experts(tmp_path: Path) -> None:
    """The fifth rank has a replica of the first expert."""
    reference = make_checkpoint(tmp_path, Kind.HF, dtype=torch.bfloat16)
    shared = 2 * (sum(parameter.numel() for parameter in reference.parameters()) - 4 * EXPERT)
    held = (0,), (1,), (2,), (3,), (0,)
    shares = tuple(RankShare(rank, experts, shared + 2 * EXPERT) for rank, experts in enumerate(held))
    assert summarize(tmp_path, 5).ranks == shares


def test_no_ranks_at_all(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, Kind.HF)
    with pytest.raises(UsageError, match="4 experts cannot be spread over 0 ranks"):
        summarize(tmp_path, 0)


def test_other_placements_than_the_even_one(tmp_path: Path) -> None:
    """Rank 0 holds experts 0 and 1 in both layers, and expert 3 in the second."""
    make_checkpoint(tmp_path, Kind.HF, dtype=torch.bfloat16)
    even = summarize(tmp_path, 2)
    first = Placement(4, ((0, 1), (2, 3)))
    moved = with_placements(even, (first, first.with_replica(3, 0)))
    assert moved.ranks == (RankShare(0, (0, 1), even.ranks[0].nbytes + EXPERT), even.ranks[1])
