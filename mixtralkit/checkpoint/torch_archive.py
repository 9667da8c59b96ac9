"""The tensors of a .pth or .pt file, found without reading their data and without running what a pickle says.

Such a file is an uncompressed zip: a pickle that describes the tensors and one record for each storage. `torch.load`
with `weights_only=True` makes tensors without memory from it, whose storages know their place in the file; that
place is checked against the zip's own directory.
"""

import pickle
import struct
import sys
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mixtralkit.checkpoint.split_files import FileParts, damaged, name_some, open_joined, shown
from mixtralkit.checkpoint.tensor_info import TensorInfo
from mixtralkit.errors import CheckpointError

_LOCAL_HEADER = struct.Struct("<4s22xHH")
# What zipfile and torch raise on damaged tables depends on which byte is hit.
_MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.PickleError,
)
_PICKLE_START = b"\x80"


@dataclass(frozen=True)
class Record:
    """An entry of a zip: `size` bytes from `offset` on, whose CRC-32 should be `crc`.

    torch.save writes 0 for all when its user has turned checksums off (`set_crc32_options`).
    """

    name: str
    offset: int
    size: int
    crc: int

    def fits(self, crc: int) -> bool:
        """Whether `crc` is that of the bytes as they were written, as far as can be known."""
        return self.crc in (0, crc)


def read_torch_archive(file: FileParts) -> dict[str, TensorInfo]:
    """The tensors of `file` by name.

    Raises `CheckpointError` when it is not a whole zip, when its pickle needs anything but tensors (the globals are
    named) or holds anything but a dict of tensors.
    """
    records = {record.offset: record for record in zip_records(file)}
    with open_joined(file) as stream:
        _check_tables(file, stream, records)
        stream.seek(0)
        _refuse_unsafe(file, stream)
        stream.seek(0)
        content = _load_without_data(file, stream)
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{file.path} holds a {type(content).__name__}, not a dict of tensors")
    return {str(name): _describe(file, str(name), value, records) for name, value in content.items()}


def zip_records(file: FileParts) -> list[Record]:
    """The entries of `file` in the order of their places; each is checked to be where the directory says."""
    with open_joined(file) as stream:
        magic = stream.read(4)
        if magic != b"PK\x03\x04":
            raise _not_a_zip(file, magic)
        try:
            with zipfile.ZipFile(stream) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, struct.error, OSError, *_MALFORMED) as error:
            raise _incomplete(file) from error
        if len({entry.filename for entry in entries}) < len(entries):  # which one counts depends on the reader
            raise CheckpointError(f"{file.path} has several entries of one name; get it from a source you trust")
        return sorted((_record(file, stream, entry) for entry in entries), key=lambda record: record.offset)


def _record(file: FileParts, stream: BinaryIO, entry: zipfile.ZipInfo) -> Record:
    if entry.header_offset < 0:
        raise _incomplete(file)
    stream.seek(entry.header_offset)
    header = stream.read(_LOCAL_HEADER.size)
    magic, name_length, extra_length = _LOCAL_HEADER.unpack(header.ljust(_LOCAL_HEADER.size, b"\0"))
    offset = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if magic != b"PK\x03\x04" or stream.read(name_length) != entry.orig_filename.encode():
        raise _incomplete(file)
    if entry.compress_type != zipfile.ZIP_STORED or offset + entry.file_size > file.size:
        raise damaged(file, f"has an entry {shown(entry.filename)} that is compressed or cut off")
    return Record(entry.filename, offset, entry.file_size, entry.CRC)


def _check_tables(file: FileParts, stream: BinaryIO, records: dict[int, Record]) -> None:
    """Check what is small and says where and what the data is; the data's own CRCs are left to verify.py."""
    for record in records.values():
        if "/data/" in record.name:
            continue
        stream.seek(record.offset)
        content = stream.read(record.size)
        if not record.fits(zlib.crc32(content)):
            raise damaged(file, f"has wrong bytes in {shown(record.name)}, which do not have their CRC-32")
        if record.name.endswith("/byteorder") and content.decode("ascii", "replace") != sys.byteorder:
            raise CheckpointError(
                f"{file.path} is of a machine of the other byte order; save it again on one like this"
            )


def _not_a_zip(file: FileParts, magic: bytes) -> CheckpointError:
    if magic[:1] == _PICKLE_START:
        return CheckpointError(
            f"{file.path} is a bare pickle, as torch before 1.6 wrote it; it is not read. Where you trust it, load it "
            "and torch.save it again, or get the weights as safetensors"
        )
    return damaged(file, "is no torch file: it does not begin as a zip")


def _incomplete(file: FileParts) -> CheckpointError:
    """The error for a zip whose directory does not fit its entries, naming the part that is to blame."""
    usual, _ = Counter(file.sizes[:-1] or file.sizes).most_common(1)[0]
    odd = [(path, size) for path, size in zip(file.paths[:-1], file.sizes, strict=False) if size != usual]
    if odd:
        (path, size), *others = odd
        more = f", and so are {name_some(path.name for path, _ in others)}" if others else ""
        return CheckpointError(
            f"{path} is damaged: it has {size:,} bytes, where parts of {file.name} have {usual:,}{more}; "
            "download what is damaged again"
        )
    if file.is_split:
        return damaged(file, f"is incomplete: {file.paths[-1].name} is truncated, or parts after it are missing")
    return damaged(file, f"is truncated or damaged ({file.size:,} bytes)")


def _refuse_unsafe(file: FileParts, stream: BinaryIO) -> None:
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(stream)
    except _MALFORMED as error:
        raise damaged(file, "has a table of tensors that cannot be read") from error
    if unsafe:
        raise CheckpointError(
            f"{file.path} is refused: its pickle asks for {name_some(unsafe)}, which a checkpoint of tensors does not "
            "need and which may run code; get the weights from a source you trust, best as safetensors"
        )


def _load_without_data(file: FileParts, stream: BinaryIO) -> Any:
    try:
        # From torch 2.13 on the meta device reads no data either, and takes a tenth of the time of fake tensors.
        if _torch_version() >= (2, 13):
            return torch.load(stream, map_location="meta", weights_only=True)
        with FakeTensorMode():
            return torch.load(stream, weights_only=True)
    except _MALFORMED as error:
        # torch's own message may advise to load without weights_only; it is not passed on.
        raise CheckpointError(f"{file.path} is damaged or unsafe: its table of tensors cannot be read") from error


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _describe(file: FileParts, name: str, value: Any, records: dict[int, Record]) -> TensorInfo:
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise CheckpointError(f"{file.path}: {shown(name)} is a {type(value).__name__}, not a plain tensor")
    begin = value.untyped_storage()._checkpoint_offset
    record = None if begin is None else records.get(begin)
    if begin is None or record is None:
        raise damaged(file, f"has no data where {shown(name)} should be")
    offset = begin + int(value.storage_offset()) * value.dtype.itemsize
    info = TensorInfo(file, offset, value.dtype, tuple(value.shape), tuple(value.stride()))
    if offset + info.extent > begin + record.size:
        raise damaged(file, f"has less data for {shown(name)} than its shape {list(value.shape)} asks for")
    return info
