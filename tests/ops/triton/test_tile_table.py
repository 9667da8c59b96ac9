"""The table of tiles: whole, within what the kernels can do, and what is chosen from it."""

import json

import pytest
import torch

from mixtralkit.ops.quantized_weight import GROUP, OUTPUT_BLOCK, QuantKind
from mixtralkit.ops.triton.product_tiles import product_entry
from mixtralkit.ops.triton.tile_table import ARCHITECTURES, FIELDS, PATH, architecture, parsed, table

ENTRIES = [(arch, name) for arch, entries in table().items() for name in entries]
LEAST = 16  # elements that Triton multiplies together


def is_power(number: int) -> bool:
    return number & (number - 1) == 0


def test_every_architecture_has_every_entry() -> None:
    """Only sm_90 has torch's grouped product."""
    names = [set(table()[arch]) - {"grouped"} for arch in ARCHITECTURES]
    assert names[0] == names[1] == names[2]
    assert {name.partition("/")[0] for name in names[0]} == set(FIELDS) - {"grouped"}
    assert [arch for arch in ARCHITECTURES if "grouped" in table()[arch]] == [90]


@pytest.mark.parametrize(("arch", "name"), ENTRIES)
def test_an_entry(arch: int, name: str) -> None:
    """Groups of integers and blocks of outputs fit; splits are whole steps, so that a step is in one of them."""
    numbers, source = table()[arch][name]
    assert source
    assert all(is_power(number) for field, number in numbers.items() if field != "stages" and name != "grouped")
    if "outputs" in numbers:
        assert (numbers["outputs"] % OUTPUT_BLOCK, numbers["inputs"] % GROUP) == (0, 0)
    if "step" in numbers:
        assert table()[arch]["split"].numbers["positions"] % numbers["step"] == 0
        assert numbers["step"] >= LEAST
    assert numbers.get("rows", LEAST) >= LEAST
    assert numbers.get("warps", 1) <= 16


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("kind", [None, *QuantKind])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_number_of_rows_has_an_entry(arch: int, kind: QuantKind | None, dtype: torch.dtype) -> None:
    """Also very many, and up to their size those for few."""
    for product in ("up", "down") if kind is None else ("up", "down", "linear"):
        names = [product_entry(arch, product, rows, dtype, kind) for rows in (1, 16, 17, 64, 65, 10**6)]
        assert set(names) <= set(table()[arch])
        assert names[0] == names[1] != names[2]
        assert names[4] == names[5]
        assert names[0].endswith("/16")


@pytest.mark.parametrize(
    ("capability", "arch"), [((7, 5), 80), ((8, 0), 80), ((8, 9), 80), ((9, 0), 90), ((10, 3), 100), ((12, 0), 80)]
)
def test_gpus_take_the_entries_for_their_tensor_cores(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], arch: int
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert architecture.__wrapped__(torch.device("cuda", 0)) == arch
    assert architecture(torch.device("cpu")) == 80


@pytest.mark.parametrize("wrong", [{"positions": "256"}, {"positions": 0}, {"step": 256}, {"from": 1}, {"more": 2}])
def test_a_wrong_entry_is_named(wrong: dict[str, object]) -> None:
    document = json.loads(PATH.read_text())
    document["sm_90"]["split"] |= wrong
    with pytest.raises(ValueError, match=r"sm_90 split .* has to have numbers positions, and 'from'"):
        parsed(json.dumps(document))
