"""A table of numbers in which the large ones stand out: in colours on a terminal, as plain numbers elsewhere."""

from collections.abc import Sequence

COLUMNS = 16  # side by side; the others follow below
# Backgrounds of a terminal's 256 colours, from few to many; the letters are black on the last ones.
SHADES = (17, 18, 24, 30, 36, 71, 143, 220)
LIGHT = 3
BLACK, WHITE = 16, 255


def heat_lines(
    names: Sequence[str], values: Sequence[Sequence[float]], notes: Sequence[str], *, coloured: bool
) -> list[str]:
    """A line a row of `values`, whose columns are numbered from 0, with the row's name before it and its note behind.

    The first of `names` and `notes` are the heads. Each value is shown as the percentage that it is of its row. A row's
    mean has a middle shade, and twice the mean or more the brightest.
    """
    numbers = [f"{column:>6}" for column in range(len(values[0]))]
    cells = [numbers, *(_cells(row_values, coloured=coloured) for row_values in values)]
    width = max(map(len, names))
    lines = []
    for first in range(0, len(numbers), COLUMNS):
        last = first + COLUMNS >= len(numbers)
        for name, row, note in zip(names, cells, notes, strict=True):
            line = f"{name:>{width}}{''.join(row[first : first + COLUMNS])}"
            lines.append(f"{line}  {note}" if last else line)
    return lines


def _cells(values: Sequence[float], *, coloured: bool) -> list[str]:
    total = sum(values)
    shares = [value / total if total else 0.0 for value in values]
    cells = [f"{100 * share:5.1f}" for share in shares]
    if not coloured:
        return [f" {cell}" for cell in cells]
    return [_coloured(f"{cell} ", share * len(values)) for cell, share in zip(cells, shares, strict=True)]


def _coloured(text: str, times_the_mean: float) -> str:
    shade = min(int(times_the_mean / 2 * len(SHADES)), len(SHADES) - 1)
    letters = BLACK if shade >= len(SHADES) - LIGHT else WHITE
    return f"\x1b[48;5;{SHADES[shade]};38;5;{letters}m{text}\x1b[0m"
