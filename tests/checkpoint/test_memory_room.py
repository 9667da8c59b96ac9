"""Free memory as Linux tells it, with and without a container's limit."""

from pathlib import Path

import pytest
import torch

from mixtralkit.checkpoint import memory_room
from mixtralkit.checkpoint.memory_room import check_room, free_memory
from mixtralkit.errors import LaunchError

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc and a /sys/fs/cgroup of our own: 8 GB available, a limit of 3 GB of which 1 is used."""
    monkeypatch.setattr(memory_room, "_PROC", tmp_path)
    monkeypatch.setattr(memory_room, "_CGROUPS", tmp_path / "groups")
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/box\n")
    (tmp_path / "groups/box").mkdir(parents=True)
    (tmp_path / "groups/box/memory.max").write_text(f"{3_000_000_000}\n")
    (tmp_path / "groups/box/memory.stat").write_text("anon 1000000000\nfile 1900000000\n")
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\n")
    return tmp_path


def test_the_tighter_limit_counts(machine: Path) -> None:
    assert free_memory(CPU) == 2_000_000_000, "cached files do not count as used"
    (machine / "groups/box/memory.max").write_text("max\n")
    assert free_memory(CPU) == 8_000_000 * 1024
    (machine / "meminfo").unlink()
    assert free_memory(CPU) is None
    check_room(private=10**15, mapped=0, device=CPU)


def test_no_room_is_said_with_the_numbers(machine: Path) -> None:
    check_room(private=1_900_000_000, mapped=10**15, device=CPU)
    with pytest.raises(LaunchError, match=r"need 2.1 GB on cpu, which has 2.0 GB free; use more ranks or nodes"):
        check_room(private=2_100_000_000, mapped=0, device=CPU)


def test_this_machine_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_memory(CPU)
    assert free is None or 10_000_000 < free < 10**14
    assert free_memory(torch.device("meta")) is None
