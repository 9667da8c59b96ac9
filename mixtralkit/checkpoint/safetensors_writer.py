"""Writes a .safetensors file tensor by tensor, so that one tensor at a time is in memory."""

import json
from pathlib import Path

import torch

from mixtralkit.checkpoint.safetensors_header import DTYPES
from mixtralkit.checkpoint.stored_state import StoredState

ALIGNMENT = 64  # of the first tensor, as the library does it for 8; mapped matrices begin at a cache line


def write_safetensors(path: Path, stored: StoredState, dtype: torch.dtype) -> None:
    """Write all of `stored` in `dtype` to `path`."""
    header, end = _header(stored, dtype)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in stored.shapes:
            file.write(stored.read(name, dtype).view(-1).view(torch.uint8).numpy().data)
        if file.tell() != 8 + len(header) + end:
            raise AssertionError(f"{file.tell()} bytes written, {8 + len(header) + end} announced")


def _header(stored: StoredState, dtype: torch.dtype) -> tuple[bytes, int]:
    """The header, padded with spaces, and the number of bytes that follow it."""
    code = next(code for code, known in DTYPES.items() if known == dtype)
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in stored.shapes.items():
        begin, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-(8 + len(text)) % ALIGNMENT), end
