"""What somebody probably meant to type."""

import difflib
from collections.abc import Iterable


def near_miss(typed: str, names: Iterable[str]) -> str:
    """A hint to append to a message, or nothing when no name is like what was `typed`."""
    plain = {name.lower().lstrip("-").replace("-", "_"): name for name in names}
    wanted = typed.lower().lstrip("-").replace("-", "_")
    starts = [known for known in plain if wanted and known.startswith(wanted)]
    close = starts[:1] or difflib.get_close_matches(wanted, plain, n=1)
    return f" (did you mean {plain[close[0]]}?)" if close else ""
