"""Help, versions, verbs, and the one line and exit status that errors become."""

import subprocess
import sys

import pytest

from mixtralkit import __version__
from mixtralkit.cli.main import main
from mixtralkit.cli.option import options_of
from mixtralkit.cli.verbs import VERBS, Verb

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # any import of torch fails
from mixtralkit.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_the_help_of_a_verb_tells_all_its_options(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb.name, "--help"]) == 0
    assert main(["help", verb.name]) == 0
    out, err = capsys.readouterr()
    first, second = out[: len(out) // 2], out[len(out) // 2 :]
    assert first == second
    assert first.startswith(f"usage: mixtralkit {verb.name} ")
    for option in options_of(verb.options):
        assert option.flag in first
    assert max(map(len, first.splitlines())) <= 100
    assert err == ""


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_help_of_the_program_names_the_verbs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb.name} " in out for verb in VERBS)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mixtralkit {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["generat"],
            "there is no verb 'generat' (did you mean generate?); the verbs are generate, chat, serve, experts",
        ),
        (["help", "merg"], "there is no verb 'merg' (did you mean merge?)"),
        (["--max-tokens"], "there is no verb '--max-tokens'"),
        (["doctor", "--fast"], "there is no option --fast"),
    ],
)
def test_what_cannot_be_understood(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status"),
    [(["generate", "--help"], 0), (["--version"], 0), (["generate", "-m", "x", "--tmperature", "1"], 2)],
)
def test_help_and_refusals_come_without_torch(words: list[str], status: int) -> None:
    """Importing torch takes seconds."""
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False)
    assert (run.returncode, "Traceback" in run.stderr) == (status, False)


def test_an_interrupt_has_the_shells_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("mixtralkit.cli.main.VERBS", (Verb("doctor", "", "", VERBS[-1].options, interrupted),))
    assert main(["doctor"]) == 130


def test_control_characters_of_a_message_are_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "/no\x1b[31m\nwhere"]) == 1
    assert capsys.readouterr().err == "mixtralkit: error: /no\\x1b[31m\n  where does not exist\n"
