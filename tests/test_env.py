"""What the environment says about this process, and how contradictions are told."""

import os
import subprocess
import sys

import pytest

from mixtralkit.env import LaunchEnv, fastermoe_variables, launch_env, requested_threads
from mixtralkit.errors import UsageError

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29540",
    "TORCHELASTIC_RUN_ID": "none",
}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_process_of_its_own() -> None:
    assert launch_env() == LaunchEnv()
    assert (launch_env().rank, launch_env().world_size, launch_env().under_torchrun) == (0, 1, False)


def test_what_torchrun_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, TORCHRUN)
    env = launch_env()
    assert (env.rank, env.world_size, env.local_rank, env.local_world_size, env.node_rank) == (5, 8, 1, 4, 1)
    assert (env.master_addr, env.master_port, env.under_torchrun) == ("node0", 29540, True)


def test_it_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = launch_env()
    set_variables(monkeypatch, TORCHRUN)
    assert launch_env() is before


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "two"}, "RANK is 'two'; a whole number is needed"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
        ({"RANK": "8"}, "RANK=8 is not below WORLD_SIZE=8"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "WORLD_SIZE=0"),
        ({"LOCAL_WORLD_SIZE": "0"}, "LOCAL_WORLD_SIZE"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK"),
    ],
)
def test_contradictions_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    set_variables(monkeypatch, {**TORCHRUN, **variables})
    with pytest.raises(UsageError, match=message):
        launch_env()


def test_the_users_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert requested_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(UsageError, match="OMP_NUM_THREADS is 'many'"):
        requested_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert requested_threads() is None


# A parent in torchrun's place: it sets OMP_NUM_THREADS=1 for a child that then says whose choice it takes that for.
CHILD = "from mixtralkit.env import requested_threads; print(requested_threads())"
PARENT = f"""
import os, subprocess, sys
os.environ.update({TORCHRUN!r}, OMP_NUM_THREADS="1")
subprocess.run([sys.executable, "-c", {CHILD!r}], check=True)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="the parent's environment is read from /proc")
@pytest.mark.parametrize(("users", "answer"), [({}, "None"), ({"OMP_NUM_THREADS": "1"}, "1")])
def test_torchruns_one_thread_is_not_the_users(users: dict[str, str], answer: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | users
    command = [sys.executable, "-c", PARENT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == answer


def test_fastermoe_variables_are_as_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"FMOE_FASTER_SHADOW_ENABLE": "1", "FMOE_FASTER_GROUP_SIZE": "", "FMOEX": "1"})
    assert list(fastermoe_variables().items()) == [("FMOE_FASTER_GROUP_SIZE", ""), ("FMOE_FASTER_SHADOW_ENABLE", "1")]
