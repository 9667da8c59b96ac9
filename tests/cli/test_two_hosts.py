"""The main job on two hosts, each with its own copy of the files, as typed: the text of one process on one host."""

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
    assert main(["generate", *model(checkpoint), *SAMPLED, *PROMPTS]) == 0
    alone = responses(capsys.readouterr().out)
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    with two_hosts() as hosts:
        processes = [
            host.start(
                torchrun(nproc, *model(folder), *SAMPLED, *PROMPTS, options=_options(node, hosts[0].address)),
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


def _options(node: int, address: str) -> list[str]:
    return ["--nnodes", "2", "--node_rank", str(node), "--master_addr", address, "--master_port", "29540"]
