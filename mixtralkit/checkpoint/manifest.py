"""SHA256SUMS: checksums of a checkpoint's files, in the format of `sha256sum`.

safetensors files carry no checksum of their own, so a flipped bit in one shows only against such a manifest.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from mixtralkit.checkpoint.byte_progress import ByteCounter, ByteProgress
from mixtralkit.checkpoint.formats import detect
from mixtralkit.errors import CheckpointError

MANIFEST = "SHA256SUMS"
CHUNK = 8 * 1024 * 1024
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[^/\0]+)")


def write_manifest(folder: Path | str, on_progress: Callable[[ByteProgress], None] | None = None) -> Path:
    """Write SHA256SUMS for the weights, the configuration and the tokenizer in `folder`; returns its path."""
    checkpoint = detect(folder)
    weights = {path for file in checkpoint.files for path in file.paths}
    others = {path for path in checkpoint.folder.iterdir() if path.suffix == ".json" or path == checkpoint.tokenizer}
    paths = sorted(weights | others)
    counter = ByteCounter(sum(path.stat().st_size for path in paths), on_progress)
    lines = [f"{_sha256(path, counter)}  {path.name}\n" for path in paths]
    manifest = checkpoint.folder / MANIFEST
    partial = manifest.with_name(MANIFEST + ".partial")
    partial.write_text("".join(lines), encoding="utf-8")
    os.replace(partial, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, str]:
    """Digest by file name; empty when there is no manifest. Raises `CheckpointError` when it is not readable."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    digests = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise CheckpointError(f"{path}, line {number}, is not '<sha256>  <file name>'; write the manifest again")
        digests[match["name"]] = match["digest"]
    return digests


def manifest_problems(folder: Path, digests: dict[str, str], counter: ByteCounter) -> list[str]:
    """A line for each listed file that is absent or has other bytes."""
    problems = []
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{path} is listed in {MANIFEST} but is not there; download it again")
        elif _sha256(path, counter) != digest:
            problems.append(f"{path} does not have the sha256 that {MANIFEST} lists; download it again")
    return problems


def _sha256(path: Path, counter: ByteCounter) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            counter.add(path.name, len(chunk))
    return digest.hexdigest()
