"""Numbers for people."""

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(nbytes: int) -> str:
    """A number of bytes in decimal units, with three digits: 1.23 GB."""
    value, unit = float(nbytes), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{nbytes} B" if unit == 0 else f"{value:.3g} {UNITS[unit]}"


def seconds(value: float) -> str:
    """A duration: 12 ms, 3.4 s, 2 min 5 s."""
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def rate(value: float) -> str:
    """Tokens a second."""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def counted(number: int, noun: str) -> str:
    """A number of things: 1 token, 1,200 tokens."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
