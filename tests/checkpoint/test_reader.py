"""Tensors found and read out of files against what torch.save and the safetensors library wrote."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mixtralkit.checkpoint import torch_archive
from mixtralkit.checkpoint.reader import CheckpointReader
from mixtralkit.checkpoint.split_files import FileParts, find_parts
from mixtralkit.errors import CheckpointError
from tests.checkpoint.make_checkpoints import split_file


def odd_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    whole = torch.randn(6, 10)
    return {
        "plain": whole,
        "view of it": whole[2:5],
        "transposed": torch.randn(4, 7).t(),
        "columns": torch.randn(5, 9)[:, 2:6],
        "every second": torch.randn(12)[::2],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "bfloat16": torch.randn(33, 2).bfloat16(),
        "float16": torch.randn(2, 3, 4).half(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "none": torch.empty(0, 4),
        "scalar": torch.tensor(2.5),
    }


def one_file(path: Path) -> list[FileParts]:
    return [FileParts(path.name, (path,))]


@pytest.mark.parametrize("version", [(2, 10), (2, 13)])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_every_tensor_of_a_pth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int, version: tuple[int, int]
) -> None:
    """Whole and in parts, by both of the ways in which torch.load can leave out the data."""
    if torch_archive._torch_version() < version:
        pytest.skip("this torch has only the other way")
    monkeypatch.setattr(torch_archive, "_torch_version", lambda: version)
    tensors = odd_tensors()
    torch.save(tensors, tmp_path / "x.pth")
    files = one_file(tmp_path / "x.pth")
    if parts > 1:
        split_file(tmp_path / "x.pth", parts)
        files = list(find_parts(tmp_path))
    reader = CheckpointReader(files)
    assert reader.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert reader.tensors[name].shape == tensor.shape
        for found in (reader.view(name), reader.copy(name)):
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor), name
            assert found.data_ptr() % found.element_size() == 0, "kernels may rely on it"
        if tensor.dim() > 0 and tensor.numel() > 0:
            rows = tensor.reshape(-1, tensor.shape[-1])
            assert torch.equal(reader.copy(name, range(len(rows))), rows)


def test_every_tensor_of_a_safetensors_file(tmp_path: Path) -> None:
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in odd_tensors().items()}
    save_file(tensors, tmp_path / "x.safetensors")
    reader = CheckpointReader(one_file(tmp_path / "x.safetensors"))
    assert reader.tensors.keys() == tensors.keys()
    assert all(torch.equal(reader.view(name), tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_rows_of_a_stack(tmp_path: Path, name: str) -> None:
    """Rows count through all leading dimensions; a misaligned safetensors file is read too."""
    stack = torch.randn(3, 4, 5)
    tensors = {"a byte": torch.zeros(1, dtype=torch.uint8), "stack": stack, "turned": torch.randn(5, 6).t().clone().t()}
    if name == "x.pth":
        torch.save(tensors, tmp_path / name)
    else:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / name)
    reader = CheckpointReader(one_file(tmp_path / name))
    for read in (reader.view, reader.copy):
        assert torch.equal(read("stack", range(3, 9)), stack.reshape(12, 5)[3:9])
        assert torch.equal(read("turned", range(1, 4)), tensors["turned"][1:4])


def test_a_view_shares_the_files_pages_and_reads_nothing_else(tmp_path: Path) -> None:
    """A change of the file shows in a view that was made before, so nothing was copied."""
    path = tmp_path / "x.pth"
    torch.save({"a": torch.ones(4096), "b": torch.ones(4096)}, path)
    reader = CheckpointReader(one_file(path))
    view, copy = reader.view("b"), reader.copy("b")
    with path.open("r+b") as file:
        file.seek(reader.tensors["b"].offset)
        file.write(bytes(4))
    assert view[0] == 0
    assert copy[0] == 1


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        torch.save({"x": torch.ones(2)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"x is both in .*a.pth and in .*b.pth"):
        CheckpointReader([*one_file(tmp_path / "a.pth"), *one_file(tmp_path / "b.pth")])
