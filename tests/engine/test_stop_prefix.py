"""What of a stop string a text ends with, beside the definition: the longest of all beginnings that fits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mixtralkit.engine.stop_prefix import StopPrefix

FEW = st.text("ab", max_size=40)  # two letters, so that much is repeated


@settings(max_examples=300, deadline=None)
@given(stop=st.text("ab", min_size=1, max_size=9), pieces=st.lists(FEW, max_size=6))
def test_it_is_the_longest_beginning(stop: str, pieces: list[str]) -> None:
    """Also after the whole stop string, which a text may have where it does not end it yet."""
    prefix, text = StopPrefix(stop), ""
    for piece in pieces:
        prefix.push(piece)
        text += piece
        assert prefix.size == max(size for size in range(len(stop)) if text.endswith(stop[:size]))


def test_long_ones_are_found() -> None:
    prefix = StopPrefix("a" * 1023 + "b")
    prefix.push("a" * 5000)
    assert prefix.size == 1023
    prefix.push("c" + "a" * 7)
    assert prefix.size == 7
