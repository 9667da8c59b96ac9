"""A profile is read back as it was written, and a file that is none is refused in words that say why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.dist.topology import Topology
from mixtralkit.errors import UsageError
from mixtralkit.moe.load_profile import LoadProfile, ProfiledModel, read_profile, write_profile

MODEL = ProfiledModel(
    name="small", num_layers=2, num_experts=3, top_k=2, dim=8, hidden_dim=16, expert_bytes=768, row_bytes=32
)
ROWS = (((1, 2, 3), (4, 0, 0)), ((0, 0, 6), (2, 1, 1)))
PROFILE = LoadProfile(MODEL, 4, (0, 1), ROWS)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_profile(PROFILE, tmp_path / "load.json")
    assert read_profile(tmp_path / "load.json") == PROFILE
    document = json.loads((tmp_path / "load.json").read_text())
    assert document["rows"][1][0] == [0, 0, 6]
    assert (document["world_size"], document["node_of_rank"], document["model"]["name"]) == (2, [0, 1], "small")


def test_what_follows_from_the_numbers() -> None:
    assert PROFILE.world_size == 2
    assert PROFILE.topology == Topology((0, 1))
    assert PROFILE.rows_LE == ((5, 2, 3), (2, 1, 7))
    assert PROFILE.demand_of(2) == ROWS
    assert PROFILE.demand_of(4) == (((1.25, 0.5, 0.75),) * 4, ((0.5, 0.25, 1.75),) * 4)


def document(**changes: Any) -> dict[str, Any]:
    """The document of `PROFILE` with other values; those of the model are given as model_NAME."""
    model: dict[str, Any] = {name: getattr(MODEL, name) for name in MODEL.__dataclass_fields__}
    model |= {key.removeprefix("model_"): changes.pop(key) for key in list(changes) if key.startswith("model_")}
    return {"model": model, "steps": 4, "world_size": 2, "node_of_rank": [0, 1], "rows": ROWS, **changes}


def without(key: str) -> dict[str, Any]:
    """The document of `PROFILE` without `key`, of its own or of the model."""
    made = document()
    del (made if key in made else made["model"])[key]
    return made


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "it holds a list, not an object"),
        (without("rows"), "'rows' is missing"),
        (without("top_k"), "'top_k' is missing"),
        (document(model=3), "'model' is a int, not an object"),
        (document(model_name=3), "'name' is 3; a text is needed"),
        (document(steps=0), "'steps' is 0; a whole number of at least 1 is needed"),
        (document(model_dim=0), "'dim' is 0; a whole number of at least 1 is needed"),
        (document(model_dim=True), "'dim' is True; a whole number"),
        (document(model_top_k=4), "'top_k' is 4, but there are only 3 experts"),
        (document(model_num_experts=4), "layer 0, rank 0 of 'rows' has 3 entries; one for each expert is needed, 4"),
        (document(model_num_layers=3), "'rows' has 2 entries; one for each layer is needed, 3"),
        (document(world_size=3), "'node_of_rank' has 2 entries; one for each rank is needed, 3"),
        (document(world_size=1, node_of_rank=[0]), "layer 0 of 'rows' has 2 entries; one for each rank is needed, 1"),
        (document(node_of_rank=[0, 2]), "rank 1 is on node 2 and there is no node 1 before"),
        (document(node_of_rank={}), "'node_of_rank' is a dict, not a list"),
        (document(rows=[[3]]), "'rows' holds a int where a list is needed"),
        (document(rows=[[[1.5]]]), "a number in 'rows' is 1.5; a whole number of at least 0"),
        (document(rows=[[[-1]]]), "a number in 'rows' is -1"),
        (document(rows=[[[2**63]]]), "a number in 'rows' is 9223372036854775808"),
    ],
)
def test_what_is_no_profile(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError) as caught:
        read_profile(file)
    assert str(caught.value).startswith(f"{file} is not a profile of experts' load: {message}")
    assert "experts --save FILE' write profiles" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "load.json").write_bytes(content)
    with pytest.raises(UsageError, match="load.json is not valid JSON"):
        read_profile(tmp_path / "load.json")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_profile(tmp_path / "load.json")
    with pytest.raises(UsageError, match="cannot be written: Is a directory"):
        write_profile(PROFILE, tmp_path)


def test_parts_that_do_not_fit_are_refused_in_python_too() -> None:
    with pytest.raises(UsageError, match="'rows' has 1 entries"):
        replace(PROFILE, rows_LWE=ROWS[:1])
