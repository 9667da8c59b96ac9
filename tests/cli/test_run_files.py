"""The files of a run: a trace in which the overlap is seen, and the experts' load."""

import io
import itertools
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mixtralkit.cli.main import main
from mixtralkit.moe.load_profile import read_profile
from tests.cli.conftest import CONFIG
from tests.cli.demo_runs import DEMO
from tests.cli.shell import PROGRAM, run

PROMPTS = ["To be, or not to be, that is the question. " * 12, "O Romeo, Romeo, wherefore art thou Romeo? " * 12]
Event = dict[str, Any]


@pytest.fixture(scope="module")
def overlapped(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """The trace and the report of two ranks whose rows went in four parts, and the file of the load."""
    folder = tmp_path_factory.mktemp("files")
    trace, load = folder / "trace.json", folder / "load.json"
    flags = ["--dispatch", "collective", "--overlap", "4", "--trace", str(trace), "--expert-load", str(load)]
    words = ["-m", str(DEMO), "--max-tokens", "6", "--report", "json", *flags, *PROMPTS]
    done = run([*PROGRAM, "generate", "--nproc", "2", *words], OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("*.partial"))
    return json.loads(trace.read_text()), json.loads(done.stdout)["report"], load


def lanes(trace: dict[str, Any], rank: int) -> dict[str, list[Event]]:
    """The events of a rank by the names of its lanes, in the order of their beginnings."""
    named = [event for event in trace["traceEvents"] if event["ph"] == "M" and event["pid"] == rank]
    lanes = {event["tid"]: event["args"]["name"] for event in named if event["name"] == "thread_name"}
    found: dict[str, list[Event]] = {name: [] for name in lanes.values()}
    for event in sorted((e for e in trace["traceEvents"] if e["ph"] == "X"), key=lambda event: event["ts"]):
        if event["pid"] == rank:
            found[lanes[event["tid"]]].append(event)
    return found


def in_common(one: Event, other: Event) -> float:
    """For how many microseconds both went on."""
    ends = (event["ts"] + event["dur"] for event in (one, other))
    return float(min(ends) - max(one["ts"], other["ts"]))


def hidden(found: Mapping[str, Sequence[Event]]) -> list[tuple[Event, Event]]:
    """What travelled while another part of the same layer was computed."""
    pairs = itertools.product(found["communication"], found["computation"])
    return [
        (travel, compute)
        for travel, compute in pairs
        if travel["args"]["layer"] == compute["args"]["layer"]
        and travel["args"]["part"] != compute["args"]["part"]
        and in_common(travel, compute) > 0
    ]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_trace_shows_communication_under_computation(rank: int, overlapped: tuple[Any, Any, Path]) -> None:
    """In some layer at least; how much depends on the machine. A lane does one thing at a time."""
    found = lanes(overlapped[0], rank)
    assert list(found) == ["steps", "computation", "communication", "replicas"]
    assert hidden(found)
    for events in found.values():
        # Times are rounded to nanoseconds, and microseconds of a few seconds in double precision to less than that.
        assert all(in_common(*pair) < 0.01 for pair in itertools.pairwise(events))


@pytest.mark.parametrize("rank", [0, 1])
def test_the_trace_is_whole(rank: int, overlapped: tuple[Any, Any, Path]) -> None:
    """Each step has its layers' parts, there and back; and the times are those of the report."""
    trace, report, _ = overlapped
    found = lanes(trace, rank)
    steps = report["prefill"]["steps"] + report["decode"]["steps"]
    names = [event["name"] for event in found["steps"]]
    assert [names[0], names[-1]] == ["prefill step 1", f"decode step {report['decode']['steps']}"]
    assert len(names) == steps
    layers = len(report["rows_per_layer_and_expert"])
    parts = {event["args"]["part"] for event in found["computation"]}
    assert parts == {0, 1, 2, 3}
    assert {event["args"]["layer"] for event in found["communication"]} == set(range(layers))
    assert len(found["communication"]) == 2 * len(found["computation"])
    first, last = found["steps"][0], found["steps"][-1]
    for event in (*found["communication"], *found["computation"]):
        assert first["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= last["ts"] + last["dur"]


def test_seconds_of_the_trace_are_those_of_the_report(overlapped: tuple[Any, Any, Path]) -> None:
    """Up to the rounding of some hundred spans to nanoseconds."""
    trace, report, _ = overlapped
    for lane in ("communication", "computation"):
        seconds = sum(event["dur"] for rank in (0, 1) for event in lanes(trace, rank)[lane]) / 1e6
        assert seconds == pytest.approx(report["strategies"][f"{lane}_seconds"], abs=1e-5)


def test_ranks_of_one_host_have_one_clock(overlapped: tuple[Any, Any, Path]) -> None:
    trace = overlapped[0]
    named = [event for event in trace["traceEvents"] if event["name"] == "process_name"]
    host = socket.gethostname()
    assert {event["pid"]: event["args"]["name"] for event in named} == {r: f"rank {r} on {host}" for r in (0, 1)}
    about = trace["otherData"]
    assert about["clock_offsets_of_ranks_in_seconds"] == about["clock_errors_of_ranks_in_seconds"] == [0.0, 0.0]
    assert about["spans_left_out_of_ranks"] == [0, 0]
    assert min(event["ts"] for event in trace["traceEvents"] if event["ph"] == "X") == 0


def test_the_load_is_that_of_the_report(overlapped: tuple[Any, Any, Path]) -> None:
    _, report, load = overlapped
    profile = read_profile(load)
    assert [list(rows_E) for rows_E in profile.rows_LE] == report["rows_per_layer_and_expert"]
    assert (profile.world_size, profile.model.name) == (2, "shakespeare")
    assert profile.steps == report["prefill"]["steps"] + report["decode"]["steps"]
    # The two prompts are of two ranks, which both fed tokens.
    assert all(sum(rows_E) > 0 for rows_WE in profile.rows_LWE for rows_E in rows_WE)


def test_a_rank_alone_writes_both_too(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has its steps to show, and nothing that travels."""
    trace, load = tmp_path / "trace.json", tmp_path / "load.json"
    flags = ["--trace", str(trace), "--expert-load", str(load)]
    assert main(["generate", "-m", str(checkpoint), "--max-tokens", "3", "--report", "none", *flags, "a"]) == 0
    found = lanes(json.loads(trace.read_text()), 0)
    assert [event["name"] for event in found["steps"]] == ["prefill step 1", "decode step 1", "decode step 2"]
    assert len(read_profile(load).rows_LWE) == CONFIG.num_layers


def test_chat_writes_them_at_its_end(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word said there is no load, which is told."""
    trace, load = tmp_path / "trace.json", tmp_path / "load.json"
    flags = ["--max-tokens", "3", "--trace", str(trace), "--expert-load", str(load)]
    command = ["chat", "-m", str(checkpoint), *flags]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(command) == 0
    assert "nothing ran, so that there is no load to write" in " ".join(capsys.readouterr().err.split())
    assert lanes(json.loads(trace.read_text()), 0)["steps"] == []
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nthe\n"))
    assert main(command) == 0
    assert len(lanes(json.loads(trace.read_text()), 0)["steps"]) >= 2
    assert read_profile(load).steps >= 2


def test_a_file_that_cannot_be_written_is_an_error(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The responses are shown before; the folder in its place is only met at the end."""
    (tmp_path / "trace.json.partial").mkdir()
    words = ["-m", str(checkpoint), "--max-tokens", "2", "--report", "none"]
    assert main(["generate", *words, "--trace", str(tmp_path / "trace.json"), "a"]) == 2
    out, err = capsys.readouterr()
    assert "[Response]:" in out
    assert "cannot be written" in " ".join(err.split())
