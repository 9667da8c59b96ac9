"""How `generate` ends when nobody reads on, and on Ctrl-C: with the shell's exit status and no traceback."""

import signal
from pathlib import Path

from tests.cli.shell import PATIENCE, PROGRAM, read_until, start


def _long_response(checkpoint: Path) -> list[str]:
    return [*PROGRAM, "generate", "-m", str(checkpoint), "--max-tokens", "15000", "a"]


def test_a_closed_output_ends_the_program_quietly(checkpoint: Path) -> None:
    with start(_long_response(checkpoint)) as process:
        read_until(process, "[Response]")
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(PATIENCE) == 141
    assert "error" not in err.lower()


def test_ctrl_c_ends_the_program_quietly(checkpoint: Path) -> None:
    with start(_long_response(checkpoint)) as process:
        read_until(process, "[Response]")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in err
