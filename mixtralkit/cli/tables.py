"""Tables of text, and lists of numbers in short."""

from collections.abc import Sequence


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers in short: 0-3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts) or "none"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, numbers to the right; the first row is the heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = [all(row[column][:1].isdigit() for row in rows[1:]) for column in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:>{w}}" if r else f"{cell:<{w}}" for cell, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
