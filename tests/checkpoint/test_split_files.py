"""Parts read in place against the bytes that they were cut from."""

import io
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixtralkit.checkpoint.mapped_bytes import MappedBytes
from mixtralkit.checkpoint.split_files import FileParts, find_parts, open_joined
from mixtralkit.errors import CheckpointError

CONTENT = bytes(range(256)) * 3


def write_parts(folder: Path, sizes: list[int]) -> FileParts:
    rest, paths = CONTENT, []
    for number, size in enumerate(sizes):
        path = folder / f"x.pth-split{number}"
        path.write_bytes(rest[:size] if number < len(sizes) - 1 else rest)
        rest = rest[size:]
        paths.append(path)
    return FileParts("x.pth", tuple(paths))


def test_parts_are_in_numeric_order(tmp_path: Path) -> None:
    """A lexical order would be 0, 1, 10, 11, 2, ..."""
    write_parts(tmp_path, [50] * 12)
    (found,) = find_parts(tmp_path)
    assert [path.name for path in found.paths] == [f"x.pth-split{number}" for number in range(12)]
    with open_joined(found) as joined:
        assert joined.read() == CONTENT


def test_a_gap_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path, [50] * 12)
    (tmp_path / "x.pth-split7").unlink()
    (tmp_path / "x.pth-split0").unlink()
    with pytest.raises(CheckpointError, match=r"lacks x.pth-split0, x.pth-split7; download"):
        find_parts(tmp_path)


def test_a_number_given_twice_is_named(tmp_path: Path) -> None:
    write_parts(tmp_path, [50] * 3)
    (tmp_path / "x.pth-split01").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"part 1 twice, x.pth-split01 and x.pth-split1"):
        find_parts(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=8),
    reads=st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(-100, 800), st.integers(0, 300)), max_size=6),
)
def test_joined_file_reads_as_one(tmp_path: Path, sizes: list[int], reads: list[tuple[int, int, int]]) -> None:
    """Any sequence of seeks and reads gives what io.BytesIO gives over the whole."""
    for old in tmp_path.iterdir():
        old.unlink()
    whole = io.BytesIO(CONTENT)
    with open_joined(write_parts(tmp_path, sizes)) as joined:
        for whence, offset, count in reads:
            base = {0: 0, 1: whole.tell(), 2: len(CONTENT)}[whence]
            if base + offset >= 0:
                assert joined.seek(offset, whence) == whole.seek(base + offset)
            assert joined.read(count) == whole.read(count)
            assert joined.tell() == whole.tell()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5), offset=st.integers(0, 767), nbytes=st.integers(0, 767)
)
def test_mapped_bytes_are_the_wholes(tmp_path: Path, sizes: list[int], offset: int, nbytes: int) -> None:
    """Inside a part as a view, across parts as a copy."""
    for old in tmp_path.iterdir():
        old.unlink()
    nbytes = min(nbytes, len(CONTENT) - offset)
    source = MappedBytes(write_parts(tmp_path, sizes))
    expected = torch.tensor(list(CONTENT[offset : offset + nbytes]), dtype=torch.uint8)
    assert torch.equal(source.view(offset, nbytes), expected)
    assert torch.equal(source.copy(offset, nbytes), expected)


def test_reading_past_the_end_is_an_error(tmp_path: Path) -> None:
    source = MappedBytes(write_parts(tmp_path, [300, 300]))
    with pytest.raises(CheckpointError, match="ends before byte 800"):
        source.view(700, 100)


def test_writes_to_a_view_do_not_reach_the_file(tmp_path: Path) -> None:
    """Training may start from mapped weights."""
    parts = write_parts(tmp_path, [300, 300])
    MappedBytes(parts).view(10, 20).fill_(0)
    with open_joined(parts) as joined:
        assert joined.read() == CONTENT
