"""The standard output while process groups open: it is the user's, not gloo's."""

import os

import pytest

from mixtralkit.dist.process_groups import _without_output


def test_what_native_code_prints_is_dropped_and_later_output_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with _without_output():
        os.write(1, b"Rank 0 is connected\n")
    os.write(1, b"{}\n")
    assert capfd.readouterr().out == "{}\n"


def test_a_closed_standard_output_stays_closed() -> None:
    kept = os.dup(1)
    os.close(1)
    try:
        with _without_output():
            pass
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(1)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
