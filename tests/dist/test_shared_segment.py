"""Memory that ranks share: all see it, it has no name, and where it cannot be had the reasons are told."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from mixtralkit.dist import shared_segment
from mixtralkit.dist.collectives import Collectives
from mixtralkit.dist.shared_segment import share_segment
from mixtralkit.errors import LaunchError
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="there is no memfd_create here")
MEGABYTE = 1 << 20


def _write_and_read(collectives: Collectives, nbytes: int) -> tuple[list[int], list[str]]:
    """What all ranks wrote, a byte each; and what of it can be seen in /dev/shm."""
    segment = share_segment(collectives, nbytes)
    assert segment.numel() == nbytes
    assert not segment[:: nbytes // 64].any()
    collectives.all_gather_json("looked")
    segment[collectives.rank - 1] = 10 + collectives.rank  # one of them at the far end
    collectives.all_gather_json("written")
    mine = [name for name in os.listdir(shared_segment.SHM) if name.startswith("mixtralkit-")]
    return [int(segment[rank - 1]) for rank in range(collectives.size)], mine


@pytest.mark.parametrize("nbytes", [4096, 1 << 40], ids=["a page", "a terabyte"])
def test_all_ranks_see_it_and_it_has_no_name(nbytes: int) -> None:
    """Far more than there is memory for: a page takes some when it is first written."""
    assert run_ranks(3, _write_and_read, nbytes) == [([10, 11, 12], [])] * 3


def _refuse(*_: Any) -> int:
    raise PermissionError("not permitted here")


def _without_memfd(collectives: Collectives, nbytes: int) -> tuple[list[int], list[str]]:
    os.memfd_create = _refuse  # type: ignore[assignment]
    return _write_and_read(collectives, nbytes)


def test_a_file_that_is_gone_at_once_where_anonymous_memory_is_forbidden() -> None:
    assert run_ranks(2, _without_memfd, MEGABYTE) == [([10, 11], [])] * 2


def _without_room(collectives: Collectives, folder: str) -> tuple[str, list[str]]:
    os.memfd_create = _refuse  # type: ignore[assignment]
    shared_segment.SHM = folder
    with pytest.raises(LaunchError) as error:
        share_segment(collectives, 1 << 60)
    return str(error.value), os.listdir(folder)


def test_where_there_is_no_room_all_ranks_say_so_and_what_to_do(tmp_path: Path) -> None:
    first, second = run_ranks(2, _without_room, str(tmp_path))
    assert first == second
    message, left = first
    assert left == []
    assert message.startswith(
        "the ranks of this host cannot share 1152921504607 MB of memory: not permitted here (rank 0)"
    )
    assert "docker run --shm-size" in message
    assert "--dispatch collective" in message


def test_a_group_of_one_needs_nobody() -> None:
    segment = share_segment(Collectives(None, torch.device("cpu")), 4096)
    assert segment.tolist() == [0] * 4096
