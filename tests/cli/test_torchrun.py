"""The main job as it is typed: torchrun and the program's own launcher give the text of one process."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mixtralkit.cli.main import main
from mixtralkit.config import to_params_json
from tests.cli.conftest import CONFIG
from tests.cli.shell import PATIENCE, PROGRAM, ROOT, read_until, run, start, torchrun
from tests.cli.test_generate import greedy
from tests.dispatches import AUTO
from tests.dist.processes import KILLED
from tests.random_model import random_model
from tests.small_tokenizer import small_tokenizer

PROMPTS = ("To be, or not", "a sea", "the question: whether", "no more")
SAMPLED = ("--temperature", "1.2", "--top-p", "0.95", "--seed", "7")


def responses(document: str) -> list[str]:
    return [completion["response"] for completion in json.loads(document)["completions"]]


def model(checkpoint: Path, max_tokens: int = 12) -> list[str]:
    files = ["-m", str(checkpoint), "-t", str(checkpoint / "tokenizer.model")]
    return [*files, "--max-tokens", str(max_tokens), "--report", "json"]


@pytest.fixture
def alone(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The sampled responses of one process."""
    assert main(["generate", *model(checkpoint), *SAMPLED, *PROMPTS]) == 0
    return responses(capsys.readouterr().out)


@pytest.mark.parametrize(("nproc", "dispatch"), [(2, "collective"), (4, "auto")])
def test_greedy_text_is_the_oracles_at_any_world_size(nproc: int, dispatch: str, checkpoint: Path) -> None:
    """Neither world size divides the five experts; with four ranks there is one for each prompt."""
    command = torchrun(nproc, *model(checkpoint), "--dispatch", dispatch, *PROMPTS)
    done = run(command, FMOE_FASTER_SCHEDULE_ENABLE="1", FMOE_FASTER_SHADOWS="1")
    assert done.returncode == 0, done.stderr
    assert responses(done.stdout) == [greedy(checkpoint, prompt, 12) for prompt in PROMPTS]
    assert done.stderr.count("FMOE_FASTER_SHADOWS has no meaning here") == 1
    report = json.loads(done.stdout)["report"]
    assert [rank["rank"] for rank in report["ranks"]] == list(range(nproc))
    assert [expert for rank in report["ranks"] for expert in rank["experts"]] == list(range(5))
    assert sum(rank["rows"] for rank in report["ranks"]) == sum(report["rows_per_expert"])
    assert report["dispatch"]["name"] == (AUTO if dispatch == "auto" else dispatch)
    assert all(rank["bytes_sent"] > 0 for rank in report["ranks"])


def test_sampled_text_is_that_of_one_process(checkpoint: Path, alone: list[str]) -> None:
    done = run(torchrun(3, *model(checkpoint), "--dispatch", "all_gather", *SAMPLED, *PROMPTS))
    assert done.returncode == 0, done.stderr
    assert responses(done.stdout) == alone


def test_the_demo_model_writes_the_same_with_other_ranks_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    """A real model in bfloat16, where a single rounding would show in some token: 2 threads, and 3 ranks of 1."""
    words = ["generate", *model(ROOT / "demo" / "shakespeare", max_tokens=60), *SAMPLED, "ROMEO:\n", "To be"]
    torch.set_num_threads(2)
    assert main(words) == 0
    spread = run([*PROGRAM, *words, "--nproc", "3"], OMP_NUM_THREADS="1")
    assert spread.returncode == 0, spread.stderr
    assert responses(spread.stdout) == responses(capsys.readouterr().out)


def test_our_own_launcher_reads_prompts_from_a_pipe(checkpoint: Path, alone: list[str]) -> None:
    command = [*PROGRAM, "generate", "--nproc", "2", *model(checkpoint), *SAMPLED, "--prompt-file", "-"]
    done = run(command, stdin="\n".join(PROMPTS))
    assert done.returncode == 0, done.stderr
    assert responses(done.stdout) == alone


def test_a_mistyped_option_is_told_once_by_all_ranks(checkpoint: Path) -> None:
    done = run(torchrun(2, "-m", str(checkpoint), "--max-tokns", "5"))
    assert done.returncode != 0
    assert done.stdout == ""
    message = "mixtralkit: error: there is no option --max-tokns (did you mean --max-tokens?); --help lists them all\n"
    assert done.stderr.count(message) == 1


def test_more_ranks_than_experts_share_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three ranks for two experts: the third helps with the first one, and the text stays."""
    config = replace(CONFIG, num_experts=2)
    small_tokenizer(tmp_path)
    torch.save(random_model(config, seed=3).state_dict(), tmp_path / "consolidated.00.pth")
    (tmp_path / "params.json").write_text(json.dumps(to_params_json(config)))
    words = ["generate", *model(tmp_path), *SAMPLED, *PROMPTS]
    assert main(words) == 0
    spread = run([*PROGRAM, *words, "--nproc", "3"])
    assert spread.returncode == 0, spread.stderr
    assert responses(spread.stdout) == responses(capsys.readouterr().out)
    ranks = json.loads(spread.stdout)["report"]["ranks"]
    assert [rank["experts"] for rank in ranks] == [[0], [1], [0]]
    assert all(rank["rows"] > 0 for rank in ranks)


def test_a_rank_killed_while_generating_ends_all_of_them(checkpoint: Path) -> None:
    """Within ten seconds, with the rank named once and nothing left running."""
    words = ["generate", "--nproc", "2", "-m", str(checkpoint), "--max-tokens", "15000", "a"]
    process = start([*PROGRAM, *words])
    try:
        read_until(process, "[Response]")
        ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        victim = next(pid for pid in ranks if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
        killed = time.monotonic()
        os.kill(int(victim), signal.SIGKILL)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert time.monotonic() - killed < 10
    assert process.returncode not in (0, None)
    assert re.search(rf"mixtralkit: error: rank 1 on \S+ \(pid {victim}\) {KILLED}", err)
    assert err.count("mixtralkit: error:") == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)
