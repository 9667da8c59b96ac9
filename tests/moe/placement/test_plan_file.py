"""Plan files: what is written is read again, and what is wrong with a file is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.moe.placement.plan import Placement, even_split
from mixtralkit.moe.placement.plan_file import read_plan, write_plan

PLAN: dict[str, Any] = {"num_experts": 3, "world_size": 2, "layers": [[[0, 1], [2]], [[0], [1, 2]]]}


def read(path: Path) -> tuple[Placement, ...]:
    return read_plan(path, num_layers=2, num_experts=3, world_size=2)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """With replicas, and with a line for each layer, for people who edit it."""
    placements = (even_split(3, 2), even_split(3, 2).with_replica(2, 0))
    write_plan(tmp_path / "plan.json", placements)
    assert read(tmp_path / "plan.json") == placements
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    lines = (tmp_path / "plan.json").read_text().splitlines()
    assert [line.strip() for line in lines[1:-1]] == ["[[0, 1], [2]],", "[[0, 1, 2], [2]]"]


def test_any_order_is_read(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({**PLAN, "layers": [[[1, 0], [2]], [[0], [2, 1]]]}))
    assert read(tmp_path / "plan.json")[1] == Placement(3, ((0,), (1, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world_size": 4}, "is for 4 ranks, and here are 2; write it again with mixtralkit experts --plan"),
        ({"world_size": "2"}, "is for '2' ranks"),
        ({"world_size": True}, "is for True ranks"),
        ({"num_experts": 8}, "is for 8 experts a layer, and here are 3"),
        ({"layers": PLAN["layers"][:1]}, "has 1 layers, and the model has 2"),
        ({"layers": 7}, "has no list of layers"),
        ({"layers": [PLAN["layers"][0], [[0, 1, 2]]]}, "layer 1, has 1 ranks; a list .* each of the 2 ranks"),
        ({"layers": [PLAN["layers"][0], None]}, "layer 1, has None; a list"),
        ({"layers": [PLAN["layers"][0], [[0], 2]]}, "layer 1, rank 1, has 2; a list of experts"),
        ({"layers": [PLAN["layers"][0], [[0], [1, 3]]]}, "layer 1, rank 1, has 3; .* from 0 to 2"),
        ({"layers": [PLAN["layers"][0], [[0], [1, -1]]]}, "layer 1, rank 1, has -1"),
        ({"layers": [PLAN["layers"][0], [[0], [1, 2.0]]]}, "layer 1, rank 1, has 2.0"),
        ({"layers": [PLAN["layers"][0], [[0], [True, 2]]]}, "layer 1, rank 1, has True"),
        ({"layers": [PLAN["layers"][0], [[0], [1, 1]]]}, r"layer 1, rank 1, has an expert twice: \[1, 1\]"),
        ({"layers": [PLAN["layers"][0], [[], [1]]]}, "layer 1, gives no rank the experts 0, 2; each needs an owner"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({**PLAN, **change}))
    with pytest.raises(UsageError, match=message) as caught:
        read(tmp_path / "plan.json")
    assert "plan.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"num_experts"', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1, 2]", "is not a plan: it has no 'num_experts', 'world_size', 'layers'"),
        (b'{"num_experts": 3, "layers": []}', "is not a plan: it has no 'world_size'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "plan.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.json cannot be read: No such file"):
        read(tmp_path / "absent.json")
