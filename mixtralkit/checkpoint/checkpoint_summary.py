"""What a folder holds, and what each rank of a group would hold of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mixtralkit.checkpoint.formats import Checkpoint, detect
from mixtralkit.checkpoint.manifest import MANIFEST
from mixtralkit.checkpoint.quantization import part_dtype, split_name
from mixtralkit.checkpoint.quantizing import WeightSource, open_weights
from mixtralkit.checkpoint.recipes import expected
from mixtralkit.checkpoint.split_files import FileParts
from mixtralkit.checkpoint.torch_archive import zip_records
from mixtralkit.config import ModelConfig
from mixtralkit.moe.placement.plan import Placement, even_split, experts_held, same_for_all
from mixtralkit.ops.quantized_weight import QuantKind

EXPERT_NAME = ".feed_forward.experts."


@dataclass(frozen=True)
class RankShare:
    """What one rank would hold: these experts in every layer, perhaps more in some, and `nbytes` in all."""

    rank: int
    experts: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True)
class QuantizedShare:
    """The part of a model that is quantized: `num_params` parameters in `nbytes` bytes."""

    kind: QuantKind
    num_params: int
    nbytes: int

    @property
    def bits_per_weight(self) -> float:
        """With scales, minima, and what fills up the last block of a matrix."""
        return 8 * self.nbytes / max(self.num_params, 1)


@dataclass(frozen=True)
class Summary:
    """Sizes are in bytes, in the files' own dtype or as quantized. `checksums` says what could find a flipped bit.

    `quantized` is None where nothing is; `dtype` is that of all else. `shared_nbytes` is what every rank holds,
    `expert_nbytes` one expert of all layers.
    """

    checkpoint: Checkpoint
    config: ModelConfig
    form: str
    naming: str
    dtype: torch.dtype
    quantized: QuantizedShare | None
    nbytes: int
    num_params: int
    num_active_params: int
    shared_nbytes: int
    expert_nbytes: int
    checksums: str
    ranks: tuple[RankShare, ...]


def summarize(folder: Path | str, world_size: int = 1, quantize: QuantKind | None = None) -> Summary:
    """Describe the checkpoint in `folder` and its even split over `world_size` ranks; no tensor is read.

    With `quantize`, as it will be when it is quantized while loading. Raises `CheckpointError` when it is not whole and
    `UsageError` when it is quantized in another way.
    """
    checkpoint = detect(folder)
    config = checkpoint.config
    weights = open_weights(checkpoint, quantize)
    sizes = {name: weights.stored_nbytes(name) for name in weights.shapes}
    shared = sum(size for name, size in sizes.items() if EXPERT_NAME not in name)
    per_expert = (sum(sizes.values()) - shared) // config.num_experts
    placements = same_for_all(even_split(config.num_experts, world_size), config.num_layers)
    return Summary(
        checkpoint=checkpoint,
        config=config,
        form=f"{checkpoint.form.value}{' in split parts' if checkpoint.is_split else ''}",
        naming=weights.naming.value,
        dtype=weights.dtype,
        quantized=_quantized(weights),
        nbytes=sum(sizes.values()),
        num_params=config.num_params,
        num_active_params=config.num_params
        - config.num_layers * (config.num_experts - config.top_k) * config.expert_params,
        shared_nbytes=shared,
        expert_nbytes=per_expert,
        checksums=_checksums(checkpoint),
        ranks=_shares(placements, shared, per_expert),
    )


def with_placements(summary: Summary, placements: Sequence[Placement]) -> Summary:
    """The same checkpoint, spread over ranks as `placements`, one a layer, say."""
    return replace(summary, ranks=_shares(placements, summary.shared_nbytes, summary.expert_nbytes))


def _shares(placements: Sequence[Placement], shared: int, per_expert: int) -> tuple[RankShare, ...]:
    """`per_expert` bytes are those of one expert of all layers."""
    ranks = range(placements[0].world_size)
    everywhere = [set.intersection(*(set(p.experts_of(rank)) for p in placements)) for rank in ranks]
    held = [experts_held(placements, rank) for rank in ranks]
    return tuple(
        RankShare(rank, tuple(sorted(everywhere[rank])), shared + held[rank] * per_expert // len(placements))
        for rank in ranks
    )


def _quantized(weights: WeightSource) -> QuantizedShare | None:
    if weights.quantization is None:
        return None
    parts = [name for name in weights.shapes if part_dtype(name, weights.quantization) is not None]
    matrices = {split_name(name)[0] for name in parts}
    shapes = expected(weights.checkpoint.config)
    return QuantizedShare(
        kind=weights.quantization,
        num_params=sum(torch.Size(shapes[name]).numel() for name in matrices),
        nbytes=sum(weights.stored_nbytes(name) for name in parts),
    )


def _checksums(checkpoint: Checkpoint) -> str:
    if (checkpoint.folder / MANIFEST).exists():
        return MANIFEST
    if all(_has_crc(file) for file in checkpoint.files):
        return "the zip's CRC-32"
    return f"none: a flipped bit would go unnoticed; 'mixtralkit verify --write-manifest' writes {MANIFEST}"


def _has_crc(file: FileParts) -> bool:
    return not file.name.endswith(".safetensors") and any(record.crc for record in zip_records(file))
