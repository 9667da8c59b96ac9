"""Says what a folder is: which files make up the checkpoint, in which order, and the shape that it states.

Only names, sizes and the first bytes of files are looked at here; what the tensors are called (names.py) and
whether they are all there (weights.py) shows when the files are opened.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mixtralkit.checkpoint.quantization import read_quantization
from mixtralkit.checkpoint.shard_index import files_of_index, in_order
from mixtralkit.checkpoint.split_files import PART_NAME, FileParts, find_parts, name_some, open_joined
from mixtralkit.config import ModelConfig, read_config
from mixtralkit.errors import CheckpointError
from mixtralkit.ops.quantized_weight import QuantKind

LFS_MARK = b"version https://git-lfs"
DIGEST_BYTES = 256 * 1024


class Form(Enum):
    """The kinds of files a checkpoint may come in, the preferred first where a folder has several."""

    QUANTIZED_SAFETENSORS = "quantized .safetensors"
    MISTRAL_PTH = "Mistral .pth"
    MISTRAL_SAFETENSORS = "Mistral .safetensors"
    HF_SAFETENSORS = "Hugging Face .safetensors"
    STACKED_PT = "stacked .pt"


@dataclass(frozen=True)
class FileNames:
    """What the files of a form are called: one file, or numbered ones, with an index of what is in which or without.

    Numbers have few digits, so that a date in a name does not count as a number of files.
    """

    numbered: re.Pattern[str]
    single: str = ""
    index: str = ""


FILE_NAMES = {
    Form.QUANTIZED_SAFETENSORS: FileNames(
        re.compile(r"quantized-(?P<number>\d{1,5})-of-(?P<total>\d{1,5})\.safetensors"),
        single="quantized.safetensors",
        index="quantized.safetensors.index.json",
    ),
    Form.MISTRAL_PTH: FileNames(re.compile(r"consolidated\.(?P<number>\d{1,4})\.pth")),
    Form.MISTRAL_SAFETENSORS: FileNames(
        re.compile(r"consolidated-(?P<number>\d{1,5})-of-(?P<total>\d{1,5})\.safetensors"),
        single="consolidated.safetensors",
        index="consolidated.safetensors.index.json",
    ),
    Form.HF_SAFETENSORS: FileNames(
        re.compile(r"model-(?P<number>\d{1,5})-of-(?P<total>\d{1,5})\.safetensors"),
        single="model.safetensors",
        index="model.safetensors.index.json",
    ),
    Form.STACKED_PT: FileNames(re.compile(r"consolidated\.(?P<number>\d{1,4})\.pt")),
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder's checkpoint: `files` in order, the model's shape, and the tokenizer's file if there is one.

    `quantization` is None where nothing is quantized. `tied_embeddings` says that the output matrix may be absent
    because it is the embedding's. `passed_over` names other weights in the folder that are not used, since those of
    `files` are preferred or the others are not whole.
    """

    folder: Path
    form: Form
    files: tuple[FileParts, ...]
    config: ModelConfig
    tokenizer: Path | None
    quantization: QuantKind | None
    tied_embeddings: bool
    passed_over: tuple[str, ...]

    @property
    def size(self) -> int:
        """The bytes of all files of weights."""
        return sum(file.size for file in self.files)

    @property
    def is_split(self) -> bool:
        """Whether a file lies in `-split` parts."""
        return any(file.is_split for file in self.files)


def detect(folder: Path | str) -> Checkpoint:
    """Find out what the checkpoint in `folder` is.

    Raises `CheckpointError` when there is none, when files are missing, empty, unreadable, doubled or only pointers to
    files, and `ConfigError` when neither params.json nor config.json gives the model's shape.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file; give the folder that it is in" if folder.exists() else "does not exist"
        raise CheckpointError(f"{folder} {what}")
    whole = {path.name: FileParts(path.name, (path,)) for path in sorted(folder.iterdir()) if path.is_file()}
    split = {file.name: file for file in find_parts(folder)}
    _check_merged(whole, split)
    found, flaws = _complete_forms(folder, {**split, **whole})
    if not found:
        raise flaws[0] if flaws else CheckpointError(_nothing_found(folder, list(whole)))
    _check_contents(folder, [folder / "params.json", folder / "config.json"])
    form, *others = found
    unused = [*_paths(*(found[other] for other in others)), *_paths(tuple(split[n] for n in split if n in whole))]
    return Checkpoint(
        folder=folder,
        form=form,
        files=found[form],
        config=read_config(folder),
        tokenizer=_find_tokenizer(folder),
        quantization=read_quantization(folder, form.value, needed=form is Form.QUANTIZED_SAFETENSORS),
        tied_embeddings=_tied_embeddings(folder),
        passed_over=(*(path.name for path in unused), *(str(flaw) for flaw in flaws)),
    )


def digest(checkpoint: Checkpoint) -> str:
    """A hash that is equal on two machines when, by all cheap signs, they have the same checkpoint.

    Covers the shape, names, sizes, the first and last bytes of each file (headers, and in a .pth the checksums of all
    data), and the tokenizer. Whether a file lies in parts makes no difference.
    """
    result = hashlib.sha256(repr((checkpoint.config, checkpoint.quantization)).encode())
    for file in checkpoint.files:
        result.update(f"{file.name} {file.size}\n".encode())
        with open_joined(file) as stream:
            result.update(stream.read(DIGEST_BYTES))
            stream.seek(max(0, file.size - DIGEST_BYTES))
            result.update(stream.read(DIGEST_BYTES))
    if checkpoint.tokenizer is not None:
        result.update(checkpoint.tokenizer.read_bytes())
    return result.hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Whether `path` is the small text that git keeps in place of a large file."""
    with path.open("rb") as file:
        return file.read(len(LFS_MARK)) == LFS_MARK


def _check_merged(whole: dict[str, FileParts], split: dict[str, FileParts]) -> None:
    for name in sorted(whole.keys() & split.keys()):
        if whole[name].size != split[name].size:
            raise CheckpointError(
                f"{name} has {whole[name].size:,} bytes but its parts add up to {split[name].size:,}: "
                f"its merging was not finished, or they differ; delete {name} or the parts"
            )


def _complete_forms(
    folder: Path, files: dict[str, FileParts]
) -> tuple[dict[Form, tuple[FileParts, ...]], list[CheckpointError]]:
    """The files of each form that is all there, the preferred first, and what is wrong with the others."""
    found, flaws = {}, []
    for form in Form:
        try:
            of_form = _files_of(folder, form, files)
            _check_contents(folder, _paths(of_form))
        except CheckpointError as error:
            flaws.append(error)
            continue
        if of_form:
            found[form] = of_form
    return found, flaws


def _files_of(folder: Path, form: Form, files: dict[str, FileParts]) -> tuple[FileParts, ...]:
    """The files of one form in order; none when the folder has not that form."""
    names = FILE_NAMES[form]
    single = (files[names.single],) if names.single in files else ()
    if names.index in files:
        several = files_of_index(folder / names.index, files)
    else:
        several = tuple(files[name] for name in in_order(folder, names.numbered, files))
    if single and several and single != several:
        raise CheckpointError(
            f"{folder} has both {single[0].name} and {several[0].name}; remove those that are not of the model you mean"
        )
    return several or single


def _check_contents(folder: Path, paths: list[Path]) -> None:
    there = [path for path in paths if path.exists()]
    try:
        pointers = [path.name for path in there if is_lfs_pointer(path)]
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}") from error
    if empty := [path.name for path in there if path.stat().st_size == 0]:
        raise CheckpointError(f"{folder} has empty files: {name_some(empty)}; download them again")
    if pointers:
        raise CheckpointError(
            f"{folder} has git LFS pointers in place of files: {name_some(pointers)}; run 'git lfs pull' there"
        )


def _paths(*groups: tuple[FileParts, ...]) -> list[Path]:
    return [path for files in groups for file in files for path in file.paths]


def _nothing_found(folder: Path, names: list[str]) -> str:
    wanted = (
        "consolidated.00.pth (or its -split parts), consolidated.safetensors, model*.safetensors, consolidated.00.pt "
        "or quantized.safetensors"
    )
    nested = sorted(path.parent.name for path in folder.glob("*/*") if _is_weights(path.name))
    hint = f"; did you mean {folder / nested[0]}?" if nested else ""
    return f"{folder} has no checkpoint: {wanted} is needed, {_seen(folder, names)}{hint}"


def _seen(folder: Path, names: list[str]) -> str:
    """What there is in a folder: its files, which have these `names`, or else all the rest."""
    if names:
        return f"it has {name_some(names)}"
    others = sorted(path.name for path in folder.iterdir())
    return f"it has no files, only {name_some(others)}" if others else "it is empty"


def _is_weights(name: str) -> bool:
    """Whether a file of that name, or a part of one, belongs to a checkpoint of any form."""
    part = PART_NAME.fullmatch(name)
    whole = part["whole"] if part else name
    return any(whole in (names.single, names.index) or names.numbered.fullmatch(whole) for names in FILE_NAMES.values())


def _find_tokenizer(folder: Path) -> Path | None:
    """tokenizer.model, or the only file whose name starts so (tokenizer.model.v3)."""
    exact = folder / "tokenizer.model"
    versions = [path for path in sorted(folder.glob("tokenizer.model*")) if not PART_NAME.fullmatch(path.name)]
    if exact in versions:
        return exact
    return versions[0] if len(versions) == 1 else None


def _tied_embeddings(folder: Path) -> bool:
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # read_config has already reported a config.json that it needs and cannot read
    return isinstance(content, dict) and content.get("tie_word_embeddings") is True
