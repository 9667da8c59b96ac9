"""Parsers of the strategies' options; like those of values.py, they raise `ValueError` saying what is allowed."""

from pathlib import Path
from typing import Literal

from mixtralkit.cli.near_miss import near_miss
from mixtralkit.cli.values import whole
from mixtralkit.moe.strategies import FEWEST_CHUNKS, HotExperts, OverlapChoice, PlacementChoice

_OVERLAPS: dict[str, OverlapChoice] = {"off": "off", "auto": "auto"}
_PLACEMENTS: dict[str, PlacementChoice] = {"even": "even", "adaptive": "adaptive"}
_HOT_EXPERTS = "experts such as 0,3 (in all layers) or, by layer, 0:1,2;5:3 are needed"


class HotExpertList(tuple[tuple[int | None, tuple[int, ...]], ...]):
    """`HotExperts`, shown as they are typed."""

    def __str__(self) -> str:
        return ";".join(("" if at is None else f"{at}:") + ",".join(map(str, experts)) for at, experts in self)


def overlap(typed: str) -> OverlapChoice:
    """The word off or auto, or a number of chunks."""
    if typed in _OVERLAPS:
        return _OVERLAPS[typed]
    try:
        return whole(FEWEST_CHUNKS)(typed)
    except ValueError:
        raise ValueError(f"off, auto or a whole number of at least {FEWEST_CHUNKS} is needed") from None


def group_size(typed: str) -> int | Literal["auto"]:
    """A number of ranks, or the word auto."""
    if typed == "auto":
        return "auto"
    try:
        return whole(1)(typed)
    except ValueError:
        raise ValueError("auto or a whole number of ranks of at least 1 is needed") from None


def placement(typed: str) -> PlacementChoice:
    """The word even or adaptive, or a plan's file, which must be there; its path is made absolute."""
    if typed in _PLACEMENTS:
        return _PLACEMENTS[typed]
    file = Path(typed)
    if "\0" in typed or not file.is_file():
        allowed = f"{', '.join(_PLACEMENTS)} or a file with a plan is needed"
        raise ValueError(f"{allowed}, and there is no such file{near_miss(typed, _PLACEMENTS)}")
    return file.absolute()


def hot_experts(typed: str) -> HotExperts:
    """Experts of all layers, or of some: parts with semicolons between them, each with a layer before it or not."""
    parts = HotExpertList(_hot_part(part) for part in typed.split(";"))
    layers = [layer for layer, _ in parts]
    if len(set(layers)) < len(layers):
        raise ValueError("each layer may be given once")
    return parts


def _hot_part(part: str) -> tuple[int | None, tuple[int, ...]]:
    layer, colon, experts = part.rpartition(":")
    if not all(word.strip().isdecimal() for word in (*experts.split(","), *([layer] if colon else []))):
        raise ValueError(_HOT_EXPERTS)
    return int(layer) if colon else None, tuple(sorted({int(expert) for expert in experts.split(",")}))
