"""The document of `mixtralkit experts` as a picture: how the rows of each layer fall on experts and on ranks."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mixtralkit.errors import UsageError
from mixtralkit.sizes import counted

INCHES_A_CELL = 0.3
FEWEST_COLUMNS = 8  # whose width a panel has at least, for its title
LABELLED = 32  # columns and layers up to which cells hold their numbers
HOTTEST = 2.0  # times the mean, from where on the colour stays the same


class _Panel(NamedTuple):
    """A heatmap: a row a layer, and a column an expert or a rank."""

    column: str
    title: str
    rows: Sequence[Sequence[float]]


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw a heatmap of layers and experts, and of layers and ranks for each placement; matplotlib must be installed.

    Raises `UsageError` when the file cannot be written.
    """
    # Neither needed nor annotated otherwise; the figure is made without pyplot, which looks for a display.
    figure_class = importlib.import_module("matplotlib.figure").Figure
    panels = _panels(document)
    columns = [max(len(panel.rows[0]), FEWEST_COLUMNS) for panel in panels]
    size = (2 + 2 * len(panels) + INCHES_A_CELL * sum(columns), 2 + INCHES_A_CELL * len(panels[0].rows))
    canvas = figure_class(figsize=size, layout="constrained")
    axes = canvas.subplots(1, len(panels), squeeze=False, width_ratios=columns)[0]
    images = [_draw(*pair) for pair in zip(axes, panels, strict=True)]
    canvas.colorbar(images[0], ax=list(axes), label="rows, over the layer's mean", extend="max")
    canvas.suptitle(f"{document['model']['name']}, {counted(document['measured']['tokens'], 'token')}")
    try:
        canvas.savefig(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from error


def _panels(document: dict[str, Any]) -> list[_Panel]:
    worst = max(document["imbalance_of_experts"])
    panels = [_Panel("expert", f"experts\nbusiest/mean up to {worst:.2f}", document["rows_per_layer_and_expert"])]
    if document["world_size"] > 1:
        for each in document["placements"]:
            title = f"ranks, {each['name']}\nbusiest/mean {each['imbalance']:.2f}"
            panels.append(_Panel("rank", title, each["rows_per_layer_and_rank"]))
    return panels


def _draw(axes: Any, panel: _Panel) -> Any:
    """One heatmap; all have the same scale, from no rows to twice the mean and more."""
    times = [[rows / max(sum(layer) / len(layer), 1e-9) for rows in layer] for layer in panel.rows]
    image = axes.imshow(times, vmin=0, vmax=HOTTEST, cmap="viridis", aspect="auto")
    axes.set(title=panel.title, xlabel=panel.column, ylabel="layer")
    axes.locator_params(integer=True)
    if max(len(times), len(times[0])) <= LABELLED:
        for layer, values in enumerate(times):
            for column, value in enumerate(values):
                letters = "black" if value > 0.6 * HOTTEST else "white"
                axes.text(column, layer, f"{value:.1f}", ha="center", va="center", fontsize=7, color=letters)
    return image
