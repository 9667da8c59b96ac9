"""Looks for damage in a checkpoint, from its file names to, if asked, its last bit."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch

from mixtralkit.checkpoint.byte_progress import ByteCounter, ByteProgress
from mixtralkit.checkpoint.formats import Checkpoint, detect, is_lfs_pointer
from mixtralkit.checkpoint.manifest import MANIFEST, manifest_problems, read_manifest
from mixtralkit.checkpoint.reader import CheckpointReader, read_tensor_infos
from mixtralkit.checkpoint.split_files import FileParts, open_joined, shown
from mixtralkit.checkpoint.torch_archive import zip_records
from mixtralkit.checkpoint.weights import Weights
from mixtralkit.errors import CheckpointError, MixtralKitError

CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: which file or tensor, and what to do, in one line."""

    message: str

    def __str__(self) -> str:
        return self.message


def verify(
    folder: Path | str,
    *,
    deep: bool = True,
    tokenizer: Path | None = None,
    on_progress: Callable[[ByteProgress], None] | None = None,
) -> list[Problem]:
    """Everything that is wrong with the checkpoint in `folder`; an empty list when nothing was found.

    Without `deep` only names, sizes and tables are looked at. With it all data is read: the CRC-32 of each record of a
    .pth, the sha256 of each file listed in SHA256SUMS, and every value for NaN and infinity. A flipped bit in a
    safetensors file without SHA256SUMS goes unnoticed unless it makes a NaN. `tokenizer` None is the folder's own.
    """
    try:
        checkpoint = detect(folder)
    except MixtralKitError as error:
        return [Problem(str(error))]
    problems = [*_table_problems(checkpoint), *_vocabulary_problems(checkpoint, tokenizer or checkpoint.tokenizer)]
    if deep:
        problems.extend(_data_problems(checkpoint, on_progress))
    return [Problem(message) for message in problems]


def _table_problems(checkpoint: Checkpoint) -> list[str]:
    """What does not even let the checkpoint be opened; each damaged file is named."""
    problems = [message for file in checkpoint.files if (message := _table_problem(file))]
    if not problems:
        try:
            Weights(checkpoint)
        except CheckpointError as error:
            problems.append(str(error))
    return problems


def _table_problem(file: FileParts) -> str | None:
    try:
        read_tensor_infos(file)
    except CheckpointError as error:
        return str(error)
    return None


def _vocabulary_problems(checkpoint: Checkpoint, tokenizer: Path | None) -> list[str]:
    if tokenizer is None:
        return []
    if tokenizer.is_file() and is_lfs_pointer(tokenizer):
        return [f"{tokenizer} is a git LFS pointer, not the file itself; run 'git lfs pull' in {tokenizer.parent}"]
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer)).get_piece_size()
    except (RuntimeError, OSError) as error:
        return [f"{tokenizer} is not a sentencepiece model ({str(error).splitlines()[0]}); download it again"]
    vocab_size = checkpoint.config.vocab_size
    if pieces == vocab_size:
        return []
    return [
        f"{tokenizer} has {pieces} pieces but the model's vocabulary is {vocab_size}; find the model's own tokenizer"
    ]


def _data_problems(checkpoint: Checkpoint, on_progress: Callable[[ByteProgress], None] | None) -> list[str]:
    try:
        digests = read_manifest(checkpoint.folder)
    except CheckpointError as error:
        return [str(error)]
    readable = [file for file in checkpoint.files if _table_problem(file) is None]
    archives = [file for file in readable if not file.name.endswith(".safetensors")]
    listed = [path.stat().st_size for name in digests if (path := checkpoint.folder / name).is_file()]
    total = sum(listed) + sum(file.size for file in archives + readable)
    counter = ByteCounter(total, on_progress)
    problems = [*manifest_problems(checkpoint.folder, digests, counter), *_unlisted(checkpoint, digests)]
    for file in archives:
        problems.extend(_crc_problems(file, counter))
    for file in readable:
        problems.extend(_value_problems(file, counter))
    return problems


def _unlisted(checkpoint: Checkpoint, digests: Mapping[str, str]) -> Iterator[str]:
    """Files without a checksum of their own that a manifest leaves out."""
    for path in (path for file in checkpoint.files for path in file.paths):
        if digests and path.suffix == ".safetensors" and path.name not in digests:
            yield f"{path} is not listed in {MANIFEST}; remove that and let 'verify --write-manifest' write it anew"


def _crc_problems(file: FileParts, counter: ByteCounter) -> Iterator[str]:
    with open_joined(file) as stream:
        for record in zip_records(file):
            stream.seek(record.offset)
            crc, left = 0, record.size
            while left and (chunk := stream.read(min(left, CHUNK))):
                crc, left = zlib.crc32(chunk, crc), left - len(chunk)
                counter.add(file.name, len(chunk))
            if not record.fits(crc):
                yield (
                    f"{_part_of(file, record.offset)} has wrong bytes: {record.size:,} from byte {record.offset:,} of "
                    f"{file.name} on do not have their CRC-32; download it again"
                )


def _part_of(file: FileParts, offset: int) -> Path:
    """The part in which a byte of the whole lies."""
    for path, size in zip(file.paths, file.sizes, strict=True):
        if offset < size:
            return path
        offset -= size
    return file.paths[-1]


def _value_problems(file: FileParts, counter: ByteCounter) -> Iterator[str]:
    reader = CheckpointReader([file])
    for name, info in reader.tensors.items():
        if not info.dtype.is_floating_point or not info.shape:
            continue
        wrong = sum(_not_finite(part) for part in _in_pieces(reader, name, counter))
        if wrong:
            count = torch.Size(info.shape).numel()
            yield f"{file.path} has {wrong:,} NaN or infinite values of {count:,} in {shown(name)}; download it again"


def _in_pieces(reader: CheckpointReader, name: str, counter: ByteCounter) -> Iterator[torch.Tensor]:
    info = reader.tensors[name]
    rows = torch.Size(info.shape[:-1]).numel()
    step = max(1, CHUNK // max(1, info.shape[-1] * info.dtype.itemsize))
    for first in range(0, rows, step):
        piece = reader.copy(name, range(first, min(first + step, rows)))
        counter.add(name, piece.nbytes)
        yield piece


def _not_finite(piece: torch.Tensor) -> int:
    return piece.numel() - int(piece.float().isfinite().sum())
