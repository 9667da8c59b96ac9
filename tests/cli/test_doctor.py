"""doctor tells what is there, and says what to do about what is not."""

import importlib.metadata
from pathlib import Path

import pytest

from mixtralkit.cli import findings
from mixtralkit.cli.findings import REQUIRED
from mixtralkit.cli.main import main


def test_a_machine_that_runs_the_tests_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = {line[9:25].strip(): line[:8].strip() for line in lines if line[:1] != " " and len(line) > 26}
    assert {
        name: found[name] for name in ("python", "torch", "sentencepiece", "gloo", "memory", "cores")
    } == dict.fromkeys(("python", "torch", "sentencepiece", "gloo", "memory", "cores"), "ok")
    assert lines[-1].startswith("This machine runs checkpoints on the CPU")


@pytest.mark.parametrize(("version", "words"), [(None, "not installed"), ("2.9.1+cpu", "2.9.1+cpu is too old")])
def test_a_missing_or_old_torch_is_the_end(
    version: str | None, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And needs no torch to be told."""
    real = importlib.metadata.version

    def fake(name: str) -> str:
        if name != "torch":
            return real(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(findings.importlib.metadata, "version", fake)
    monkeypatch.setattr("mixtralkit.cli.doctor._hardware", lambda: pytest.fail("looked further"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert f"{words}; pip install 'torch>=2.10'" in out
    assert "Nothing can run before there is torch." in out


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FMOE_TOPO_GPUS_PER_NODE", "8", "FMOE_TOPO_GPUS_PER_NODE=8"),
        ("FMOE_TOPO_GPUS_PER_NODE", "", "none set"),
        ("FMOE_TOPO_GPU_PER_NODE", "8", "has no meaning here (did you mean FMOE_TOPO_GPUS_PER_NODE?)"),
        ("FMOE_TOPO_GPUS_PER_NODE", "all", "FMOE_TOPO_GPUS_PER_NODE is 'all'; a whole number of at least 1 is needed"),
    ],
)
def test_variables_of_fastermoe_are_named(
    name: str, value: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert main(["doctor"]) == 0
    assert words in " ".join(capsys.readouterr().out.split())


def test_the_lowest_versions_are_those_of_requirements() -> None:
    lines = (Path(__file__).parents[2] / "requirements.txt").read_text().splitlines()
    assert dict(line.split(">=") for line in lines if line and not line.startswith("#")) == REQUIRED
