"""Groups that start: by torchrun, by hand as under srun, and alone."""

import os
import re
import sys

import pytest

from mixtralkit.dist.launch import LaunchOptions, start_group
from mixtralkit.errors import LaunchError, UsageError
from tests.dist.processes import PROGRAM, environment, run, run_by_hand, torchrun

CORES = len(os.sched_getaffinity(0))


def test_without_a_launcher_there_is_one_rank_and_no_process_group() -> None:
    with start_group(LaunchOptions(device="cpu")) as group:
        group.at("nowhere")
        assert (group.rank, group.world_size, group.local_rank, group.node) == (0, 1, 0, 0)
        assert group.watchdog is None
        assert group.collectives.all_gather_json({"a": 1}) == [{"a": 1}]


def test_torchrun_starts_a_group_whose_ranks_share_the_cores() -> None:
    """Torchrun's own OMP_NUM_THREADS=1 is not the user's choice."""
    variables = environment()
    del variables["OMP_NUM_THREADS"]
    ended = run(torchrun(2, "ok"), variables)
    assert ended.status == 0, ended.output
    share = max(1, CORES // 2)
    started = sorted(re.findall(r"rank \d of 2, .*", ended.output))
    assert started == [f"rank {rank} of 2, local {rank} on node 0, cpu, threads {share}" for rank in (0, 1)]


def test_the_users_own_number_of_threads_is_kept() -> None:
    ended = run([sys.executable, PROGRAM, "ok"], environment(OMP_NUM_THREADS="3"))
    assert "rank 0 of 1, local 0 on node 0, cpu, threads 3" in ended.output


def test_ranks_started_by_hand_number_themselves_on_their_host() -> None:
    """As srun or mpirun do it: RANK, WORLD_SIZE and MASTER_* are set, LOCAL_RANK is not."""
    ended = run_by_hand(2, "ok")
    assert [one.status for one in ended] == [0, 0], [one.output for one in ended]
    assert "rank 1 of 2, local 1 on node 0" in ended[1].output


def test_a_group_by_hand_needs_a_master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(LaunchError, match="MASTER_ADDR is not: set it to the host of rank 0"),
        start_group(LaunchOptions()),
    ):
        pass


def test_an_unknown_device_is_refused() -> None:
    with (
        pytest.raises(UsageError, match="'tpu' is unknown; there are auto, cpu, cuda"),
        start_group(LaunchOptions("tpu")),
    ):
        pass
