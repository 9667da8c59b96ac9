"""Reads single tensors, or rows of them, out of a checkpoint's files, under the names they have there."""

from collections.abc import Sequence

import torch

from mixtralkit.checkpoint.mapped_bytes import MappedBytes
from mixtralkit.checkpoint.safetensors_header import read_safetensors_header
from mixtralkit.checkpoint.split_files import FileParts, shown
from mixtralkit.checkpoint.tensor_info import TensorInfo
from mixtralkit.checkpoint.torch_archive import read_torch_archive
from mixtralkit.errors import CheckpointError


class CheckpointReader:
    """`tensors` says what there is; data is read only by `view` and `copy`, and only what they are asked for."""

    def __init__(self, files: Sequence[FileParts]) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        self._bytes = {file.name: MappedBytes(file) for file in files}
        for file in files:
            self._add(read_tensor_infos(file))

    def view(self, name: str, rows: range | None = None) -> torch.Tensor:
        """Tensor `name` in mapped memory where its place allows, else copied.

        With `rows`, those rows of it seen as a matrix `[all leading dimensions, last dimension]`.
        """
        return self._read(self.tensors[name], rows, mapped=True)

    def copy(self, name: str, rows: range | None = None) -> torch.Tensor:
        """The same in memory of its own, with nothing left mapped."""
        return self._read(self.tensors[name], rows, mapped=False)

    def _add(self, infos: dict[str, TensorInfo]) -> None:
        for name, info in infos.items():
            if name in self.tensors:
                first = self.tensors[name].file.path
                raise CheckpointError(
                    f"{shown(name)} is both in {first} and in {info.file.path}; each may be in one file only"
                )
            self.tensors[name] = info

    def _read(self, info: TensorInfo, rows: range | None, *, mapped: bool) -> torch.Tensor:
        if not info.is_contiguous:
            whole = self._elements(info, info.offset, info.extent, mapped=mapped).as_strided(info.shape, info.stride)
            return whole if rows is None else whole.reshape(-1, info.shape[-1])[rows.start : rows.stop]
        if rows is None:
            return self._elements(info, info.offset, info.nbytes, mapped=mapped).view(info.shape)
        row_bytes = info.shape[-1] * info.dtype.itemsize
        begin, nbytes = info.offset + rows.start * row_bytes, len(rows) * row_bytes
        return self._elements(info, begin, nbytes, mapped=mapped).view(len(rows), info.shape[-1])

    def _elements(self, info: TensorInfo, offset: int, nbytes: int, *, mapped: bool) -> torch.Tensor:
        source = self._bytes[info.file.name]
        found = source.view(offset, nbytes, info.dtype.itemsize) if mapped else source.copy(offset, nbytes)
        return found.view(info.dtype)


def read_tensor_infos(file: FileParts) -> dict[str, TensorInfo]:
    """What one file holds, by name. Raises `CheckpointError` when it is damaged or unsafe."""
    return read_safetensors_header(file) if file.name.endswith(".safetensors") else read_torch_archive(file)
