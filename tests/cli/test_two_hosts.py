"""The main job on two hosts, each with its own copy of the files, as typed: the text of one process on one host."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mixtralkit.cli.main import main
from tests.cli.shell import PATIENCE, environment, torchrun
from tests.cli.test_torchrun import PROMPTS, SAMPLED, model, responses
from tests.netns import two_hosts, why_not

REASON = why_not()


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_two_hosts_give_the_text_of_one(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a trace on one clock: these hosts are one machine, so that their clocks do not differ in truth."""
    assert main(["generate", *model(checkpoint), *SAMPLED, *PROMPTS]) == 0
    alone = responses(capsys.readouterr().out)
    trace = tmp_path / "trace.json"
    words = [*SAMPLED, "--trace", str(trace), *PROMPTS]
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    with two_hosts() as hosts:
        processes = [
            host.start(
                torchrun(nproc, *model(folder), *words, options=_options(node, hosts[0].address)),
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for node, (host, nproc, folder) in enumerate(zip(hosts, (2, 1), (checkpoint, copy), strict=True))
        ]
        try:
            (first, first_err), (second, second_err) = [process.communicate(timeout=PATIENCE) for process in processes]
        finally:
            for process in processes:
                process.kill()
    assert [process.returncode for process in processes] == [0, 0], first_err + second_err
    assert responses(first) == alone
    assert second == ""
    about = json.loads(trace.read_text())["otherData"]
    offsets, errors = about["clock_offsets_of_ranks_in_seconds"], about["clock_errors_of_ranks_in_seconds"]
    assert (offsets[:2], errors[:2]) == ([0.0, 0.0], [0.0, 0.0])
    assert abs(offsets[2]) <= errors[2]
    assert errors[2] < 0.1  # a meeting takes a millisecond where the machine is not busy


def _options(node: int, address: str) -> list[str]:
    return ["--nnodes", "2", "--node_rank", str(node), "--master_addr", address, "--master_port", "29540"]
