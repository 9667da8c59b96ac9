"""doctor tells what is there, and says what to do about what is not."""

import importlib.metadata
from pathlib import Path

import pytest

from mixtralkit.cli import findings, hardware_findings
from mixtralkit.cli.findings import REQUIRED
from mixtralkit.cli.main import main
from mixtralkit.moe.dispatch import nccl_library
from mixtralkit.moe.dispatch.nccl_library import NcclFacts


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


@pytest.mark.parametrize(
    ("of_torch", "state", "words"),
    [
        (None, "ok", "NCCL 2.30.7 at /there, called as its header 2.28.9 says; torch has none loaded"),
        ("2.30.7", "ok", "NCCL 2.30.7 at /there, called as its header 2.28.9 says; torch has the same"),
        (
            "2.27.5",
            "no",
            "it needs the NCCL that torch has: torch uses NCCL 2.27.5, and the operators have found 2.30.7 at /there",
        ),
    ],
)
def test_nccl_s_versions_and_path_are_told(
    of_torch: str | None, state: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of header, library and torch; two different ones in a process are refused."""
    facts = NcclFacts("2.28.9", "2.30.7", "/there", of_torch)
    monkeypatch.setattr(nccl_library.library, "why_not", lambda name: None)
    for module in (nccl_library, hardware_findings):
        monkeypatch.setattr(module, "nccl_facts", lambda: facts)
    found = hardware_findings.nccl_operators()
    assert (found.state, found.words) == (state, words)


def test_without_the_operators_over_nccl_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nccl_library.library, "why_not", lambda name: "there is no nccl.h; install it")
    found = hardware_findings.nccl_operators()
    assert (found.state, found.words) == ("no", "it needs the operators over NCCL: there is no nccl.h; install it")


def test_the_exchange_between_gpus_is_there_or_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for problem, state in ((None, "ok"), ("there is no nvcc", "no")):
        monkeypatch.setattr(hardware_findings.library, "why_not", lambda name, problem=problem: problem)
        found = hardware_findings.exchange_between_gpus()
        assert (found.name, found.state) == ("peer on GPUs", state)
    assert found.words == "there is no nvcc"
