"""The search for tiles: what is tried, left out, chosen and written; and all of it in the interpreter."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu.tile_search import RUNGS, Trial, best, candidates, dumped, fits, rewritten
from mixtralkit.ops.triton.tile_table import ARCHITECTURES, PATH, Choice, parsed, table

pytest.importorskip("triton")

from benchmarks.gpu import tune
from benchmarks.gpu.tuned_calls import Sizes, calls

TINY = Sizes(*(64, 128, 4, 2, 4, 2, 16, 16, 600), tokens=(1, 40), contexts=((2, 40),), prompts=(20,), sampled=(2,))
CPU = torch.device("cpu")
ENTRIES = [(arch, name) for arch in ARCHITECTURES for name in table()[arch]]


@pytest.fixture
def _same_table_after() -> Iterator[None]:
    before = {arch: dict(entries) for arch, entries in table().items()}
    yield
    table().update(before)


@pytest.mark.parametrize(("arch", "name"), ENTRIES)
def test_candidates_are_near_and_fit(arch: int, name: str) -> None:
    """Of every entry there are some; each with other numbers, no more than two of them, and those by one rung."""
    present, found = table()[arch][name].numbers, candidates(arch, name, table()[arch])
    assert found
    assert len({tuple(numbers.values()) for numbers in found} | {tuple(present.values())}) == len(found) + 1
    for numbers in found:
        assert list(numbers) == list(present)
        moved = [field for field in present if numbers[field] != present[field]]
        assert 1 <= len(moved) <= 2
        if name != "grouped":
            for field in moved:
                low, high = sorted((numbers[field], present[field]))
                assert not [rung for rung in RUNGS[field] if low < rung < high]
        parsed(rewritten(PATH.read_text(), arch, name, Choice(numbers, "a test")))
    changes = [sum(numbers[field] != present[field] for field in present) for numbers in found]
    assert changes == sorted(changes)


@pytest.mark.parametrize(
    ("name", "numbers", "expected"),
    [
        ("up/dense/more", (128, 128, 64, 8, 3), True),  # 2 x 64 x (128 + 2 x 128) x 2 bytes are 96 KiB
        ("up/dense/more", (128, 128, 64, 8, 4), False),
        ("up/fp8/more", (128, 128, 64, 8, 4), True),  # weights of one byte
        ("down/dense/more", (128, 128, 64, 4, 2), True),  # 128 sums a thread
        ("up/dense/more", (128, 128, 64, 4, 2), False),
        ("tokens/half", (16, 128, 4, 3), True),
        ("tokens/half", (16, 512, 4, 3), False),  # a split is 256
        ("split", (128,), True),
        ("split", (32,), False),  # steps of 64
        ("sample", (4096, 128), True),
        ("sample", (8192, 128), False),  # 64 warps
    ],
)
def test_what_fits(name: str, numbers: tuple[int, ...], expected: bool) -> None:
    """On sm_80 with 99 KiB."""
    given = dict(zip(table()[80][name].numbers, numbers, strict=True))
    assert fits(80, name, given, table()[80]) is expected


def test_the_best_gains_over_all_calls_alike() -> None:
    """Means of parts, not of times; chance, and what is no choice, wins nothing."""
    present, slower_once = Trial({"a": 1}, (1.0, 100.0)), Trial({"a": 2}, (1.5, 90.0))
    better, by_chance = Trial({"a": 3}, (0.5, 110.0)), Trial({"a": 4}, (0.99, 99.5))
    wrong = Trial({"a": 5}, why_not="differs")
    assert best([present, slower_once, better, by_chance, wrong]) is better
    assert best([present, slower_once, by_chance, wrong]) is present
    assert best([present]) is present


def test_the_file_is_laid_out_as_it_is_written() -> None:
    """A choice changes one line, so that a human sees in a diff what a GPU has chosen."""
    text = PATH.read_text()
    assert dumped(json.loads(text)) == text
    written = rewritten(text, 90, "split", Choice({"positions": 512}, "A GPU, a day"))
    changed = [line for line in written.splitlines() if line not in text.splitlines()]
    assert changed == ['  "split": {"positions": 512, "from": "A GPU, a day"},']
    assert parsed(written)[90]["split"] == Choice({"positions": 512}, "A GPU, a day")
    assert parsed(written)[80] == table()[80]


@dataclass
class Kernel:
    """As much of a compiled kernel as is asked."""

    shared: int
    n_spills: int

    @property
    def metadata(self) -> SimpleNamespace:
        return SimpleNamespace(shared=self.shared)


def test_what_has_too_much_is_no_choice() -> None:
    assert tune.too_much([Kernel(101_376, 0)], 80) == ""
    assert tune.too_much([Kernel(0, 0), Kernel(101_377, 0)], 80) == "101377 bytes of shared memory"
    assert tune.too_much([Kernel(101_377, 8)], 90) == "8 spilled registers"


def test_another_result_is_no_choice() -> None:
    """Beyond the rounding of the dtype; NaN is another result, also where both have it."""
    result = torch.tensor([4.0, 0.01])
    assert tune.differs(result + 3e-5, result) == ""
    assert tune.differs(result + 5e-5, result).startswith("differs by 5")
    assert tune.differs(result.bfloat16() + 0.0625, result.bfloat16()) == ""
    assert tune.differs(torch.tensor([3]), torch.tensor([4])) == "differs by 1"
    assert tune.differs(result * torch.nan, result * torch.nan)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU there is no interpreter")
@pytest.mark.usefixtures("_same_table_after")
def test_all_of_it_in_the_interpreter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the clock, by which whatever is tried later is faster; a candidate that fails is left out.

    One of each kind of kernel; the file has the last one measured of each, and nothing else new.
    """
    clock, ran = _faster_and_faster()
    names = ["up/dense/16", "down/int4/16", "linear/fp8/64", "tokens/half", "prompts/float32", "split", "sample"]
    before = {name: table()[80][name].numbers for name in names}
    monkeypatch.setattr(tune, "candidates", lambda arch, name, entries: candidates(arch, name, entries)[:2])
    monkeypatch.setattr(tune, "differs", _failing_once(tune.differs))
    file = tmp_path / "tiles.json"
    file.write_text(PATH.read_text())
    with torch.inference_mode():
        tune.run(names, CPU, seconds=1e3, file=file, source="A GPU, a day", sizes=TINY, clock=clock, square=16)
    said, found = capsys.readouterr().out, parsed(file.read_text())
    assert ran.count("timed") > 3 * len(names)
    assert re.findall("^## (.*)$", said, re.MULTILINE) == names
    assert said.count("| present |") == said.count("| chosen |") == len(names)
    assert said.count("no choice") == 1
    assert {name for name, choice in found[80].items() if choice.source == "A GPU, a day"} == set(names)
    assert all(found[80][name].numbers != numbers for name, numbers in before.items())
    assert found[80] == table()[80]
    assert found[90] == table()[90]


def _faster_and_faster() -> tuple[tune.Clock, list[str]]:
    ran: list[str] = []

    def clock(run: Callable[[], object]) -> float:
        run()
        ran.append("timed")
        return 0.5 ** len(ran)

    return clock, ran


def _failing_once(differs: Callable[[torch.Tensor, torch.Tensor], str]) -> Callable[[torch.Tensor, torch.Tensor], str]:
    """Say of the first result that it is no choice; all others are really compared."""
    first = ["no choice"]

    def found(result: torch.Tensor, expected: torch.Tensor) -> str:
        assert differs(result, expected) == ""
        return first.pop() if first else ""

    return found


@pytest.mark.usefixtures("_same_table_after")
def test_when_the_time_is_over_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock, file = _faster_and_faster()[0], tmp_path / "tiles.json"
    file.write_text(PATH.read_text())
    tune.run(["split"], CPU, seconds=-1, file=file, source="", sizes=TINY, clock=clock, square=16)
    assert capsys.readouterr().out == "split: the time is over\n"
    assert file.read_text() == PATH.read_text()


def test_every_entry_has_calls() -> None:
    """For Mixtral's numbers of tokens, with the layer's other sizes tiny: between them they have all entries."""
    sizes = Sizes(*(64, 128, 8, 2, 4, 2, 16, 16, 600), contexts=((1, 40),), prompts=(20,))
    with torch.inference_mode():
        for name in table()[90]:
            own = calls(name, 90, sizes, CPU)
            assert own, name
            assert all(call.nbytes > 0 for call in own)


def test_names() -> None:
    assert tune.entries(90, ["up/int4"]) == [f"up/int4/{rows}" for rows in (16, 32, 64, "more")]
    assert tune.entries(90, ["split", "sample"]) == ["split", "sample"]
    assert tune.entries(80, []) == list(table()[80])
    with pytest.raises(SystemExit, match="no entry is called upp; there are up/dense/16,"):
        tune.entries(80, ["upp"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(SystemExit, match="no GPU"):
        tune.main([])
