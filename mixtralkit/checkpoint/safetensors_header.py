"""The tensors of a .safetensors file, from its header (github.com/huggingface/safetensors, "Format").

Eight bytes give the header's length, then JSON says each tensor's dtype, shape and place in the bytes that follow.
The header is read here rather than by the library so that files in parts can be read in place, and so that a name
given twice, which the library accepts, is refused.
"""

import json
from typing import Any

import torch

from mixtralkit.checkpoint.split_files import FileParts, damaged, open_joined, shown
from mixtralkit.checkpoint.tensor_info import TensorInfo, contiguous_stride
from mixtralkit.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
MAX_HEADER = 100_000_000  # the library's own limit, in bytes


def read_safetensors_header(file: FileParts) -> dict[str, TensorInfo]:
    """The tensors of `file` by name. Raises `CheckpointError` when the header is not valid or the file too short."""
    with open_joined(file) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if file.size < 8 or length > min(MAX_HEADER, file.size - 8):
            raise damaged(file, f"is truncated or no safetensors file ({file.size:,} bytes)")
        header = _parse(file, stream.read(length))
    begin = 8 + length
    tensors = {name: _describe(file, name, entry, begin) for name, entry in header.items() if name != "__metadata__"}
    _check_places(file, tensors, begin)
    return tensors


def _parse(file: FileParts, text: bytes) -> dict[str, Any]:
    def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise CheckpointError(
                    f"{file.path} names {shown(name)} twice in its header; get it from a source you trust"
                )
            names.add(name)
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=refuse_doubles)
    except (ValueError, RecursionError) as error:
        raise damaged(file, "has a header that is not valid JSON") from error
    if not isinstance(header, dict):
        raise damaged(file, "has a header that is not a JSON object")
    return header


def _describe(file: FileParts, name: str, entry: Any, begin: int) -> TensorInfo:
    try:
        first, last = _counts(entry["data_offsets"])
        shape = _counts(entry["shape"])
        dtype = DTYPES[entry["dtype"]]
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(file, f"gives {shown(name)} an unknown dtype or no valid place ({error!r})") from error
    info = TensorInfo(file, begin + first, dtype, shape, contiguous_stride(shape))
    if last - first != info.nbytes:
        raise damaged(file, f"gives {shown(name)} {list(shape)} the place {first}..{last}, which does not fit")
    return info


def _counts(values: Any) -> tuple[int, ...]:
    """`values` if they are a list of whole numbers from 0 to what torch can count to, else `ValueError`."""
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise ValueError(f"{values!r:.100} is no list of sizes")
    return tuple(values)


def _check_places(file: FileParts, tensors: dict[str, TensorInfo], begin: int) -> None:
    """The tensors must fill the rest of the file without overlap or gap."""
    end = begin
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if info.offset != end:
            raise damaged(file, f"lets {shown(name)} overlap another tensor or follow a gap")
        end += info.nbytes
    if end > file.size:
        raise damaged(file, f"is truncated: it has {file.size:,} bytes of {end:,}")
    if end < file.size:
        raise damaged(file, f"has {file.size - end:,} bytes after its last tensor")
