"""The symbols of a shared library or an object file, read from the file itself (ELF, 64 bits, little-endian)."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ALL, DYNAMIC = 2, 11  # SHT_SYMTAB, SHT_DYNSYM
LOCAL, GLOBAL, WEAK, UNIQUE = 0, 1, 2, 10  # STB_...


class Symbol(NamedTuple):
    """A name that the file defines, or wants another to define."""

    name: str
    defined: bool
    binding: int


def symbols(path: Path, table: int) -> list[Symbol]:
    """The entries of one table of symbols, but its empty first."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01", "not a 64-bit little-endian ELF file"
    sections = list(_sections(data))
    offset, size, link = next(place for kind, *place in sections if kind == table)
    names = data[sections[link][1] :]
    found = []
    for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", data[offset : offset + size]):
        found.append(Symbol(names[name : names.index(b"\0", name)].decode(), section != 0, info >> 4))
    return found[1:]


def _sections(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Kind, offset, size and link of each section."""
    (start,) = struct.unpack_from("<Q", data, 0x28)
    entry_size, count = struct.unpack_from("<HH", data, 0x3A)
    for index in range(count):
        _, kind, _, _, offset, size, link = struct.unpack_from("<IIQQQQI", data, start + index * entry_size)
        yield kind, offset, size, link
