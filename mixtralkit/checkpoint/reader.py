"""Reads single tensors, or rows of them, out of a checkpoint's files, under the names they have there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mixtralkit.checkpoint.mapped_bytes import MappedBytes
from mixtralkit.checkpoint.safetensors_header import read_safetensors_header
from mixtralkit.checkpoint.split_files import FileParts, shown
from mixtralkit.checkpoint.tensor_info import TensorInfo
from mixtralkit.checkpoint.torch_archive import read_torch_archive
from mixtralkit.errors import CheckpointError


@dataclass(frozen=True)
class Stretch:
    """`nbytes` bytes of `file` from `offset` on."""

    file: FileParts
    offset: int
    nbytes: int


class CheckpointReader:
    """`tensors` says what there is; data is read only by `view` and `copy`, and only what they are asked for.

    `stretch` and `shaped` are the same in two steps, for who reads the bytes otherwise.
    """

    def __init__(self, files: Sequence[FileParts]) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        self._bytes = {file.name: MappedBytes(file) for file in files}
        for file in files:
            self._add(read_tensor_infos(file))

    def view(self, name: str, rows: range | None = None) -> torch.Tensor:
        """Tensor `name` in mapped memory where its place allows, else copied.

        With `rows`, those rows of it seen as a matrix `[all leading dimensions, last dimension]`.
        """
        stretch, alignment = self.stretch(name, rows), self.tensors[name].dtype.itemsize
        mapped = self._bytes[stretch.file.name].view(stretch.offset, stretch.nbytes, alignment)
        return self.shaped(name, rows, mapped)

    def copy(self, name: str, rows: range | None = None) -> torch.Tensor:
        """The same in memory of its own, with nothing left mapped."""
        stretch = self.stretch(name, rows)
        return self.shaped(name, rows, self._bytes[stretch.file.name].copy(stretch.offset, stretch.nbytes))

    def stretch(self, name: str, rows: range | None = None) -> Stretch:
        """The bytes that `view` and `copy` look at."""
        info = self.tensors[name]
        if not info.is_contiguous:
            return Stretch(info.file, info.offset, info.extent)
        if rows is None:
            return Stretch(info.file, info.offset, info.nbytes)
        row_bytes = info.shape[-1] * info.dtype.itemsize
        return Stretch(info.file, info.offset + rows.start * row_bytes, len(rows) * row_bytes)

    def shaped(self, name: str, rows: range | None, data: torch.Tensor) -> torch.Tensor:
        """What `view` and `copy` give, from the bytes (uint8) of its stretch, on whatever device they are."""
        info, elements = self.tensors[name], data.view(self.tensors[name].dtype)
        if not info.is_contiguous:
            whole = elements.as_strided(info.shape, info.stride)
            return whole if rows is None else whole.reshape(-1, info.shape[-1])[rows.start : rows.stop]
        return elements.view(info.shape if rows is None else (len(rows), info.shape[-1]))

    def _add(self, infos: dict[str, TensorInfo]) -> None:
        for name, info in infos.items():
            if name in self.tensors:
                first = self.tensors[name].file.path
                raise CheckpointError(
                    f"{shown(name)} is both in {first} and in {info.file.path}; each may be in one file only"
                )
            self.tensors[name] = info


def read_tensor_infos(file: FileParts) -> dict[str, TensorInfo]:
    """What one file holds, by name. Raises `CheckpointError` when it is damaged or unsafe."""
    return read_safetensors_header(file) if file.name.endswith(".safetensors") else read_torch_archive(file)
