"""FasterMoE's variables: what they may hold, what is made of it, and errors that name the variable."""

import pytest

from mixtralkit.errors import UsageError
from mixtralkit.fastermoe_env import KNOWN, FasterMoeEnv, fastermoe_env


def test_nothing_is_set() -> None:
    assert fastermoe_env() == FasterMoeEnv()


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KNOWN, "FMOE_OTHER"):
        monkeypatch.setenv(name, " ")
    assert fastermoe_env() == FasterMoeEnv()


@pytest.mark.parametrize("name", ["FMOE_FASTER_SCHEDULE_ENABLE", "FMOE_FASTER_SHADOW_ENABLE"])
@pytest.mark.parametrize(
    ("value", "on"),
    [
        *((value, True) for value in ("1", "ON", "on", "true", "True", "yes", "YES", " 1 ")),
        *((value, False) for value in ("0", "OFF", "off", "false", "No")),
    ],
)
def test_switches(name: str, value: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    env = fastermoe_env()
    assert (env.schedule_enable if "SCHEDULE" in name else env.shadow_enable) is on
    assert (env.shadow_enable if "SCHEDULE" in name else env.schedule_enable) is None


def test_a_script_of_fastermoe(monkeypatch: pytest.MonkeyPatch) -> None:
    script = {
        "FMOE_FASTER_SCHEDULE_ENABLE": "ON",
        "FMOE_FASTER_GROUP_SIZE": "16",
        "FMOE_FASTER_SHADOW_ENABLE": "1",
        "FMOE_FASTER_GLBPLC_NETBW": "8e9",
        "FMOE_FASTER_GLBPLC_GPUTP": "112e12",
        "FMOE_FASTER_GLBPLC_ALPHA": "3.5",
        "FMOE_FASTER_GLBPLC_DMODEL": "4096.0",
        "FMOE_TOPO_GPUS_PER_NODE": "8",
        "FMOE_TOPO_OUTGOING_FRACTION": "0.14",
        "FMOE_FASTER_GLBPLC_NETBW_Bcast": "2e9",
    }
    for name, value in script.items():
        monkeypatch.setenv(name, value)
    unknown = ("FMOE_FASTER_GLBPLC_NETBW_Bcast",)
    assert fastermoe_env() == FasterMoeEnv(True, 16, True, 8e9, 112e12, 3.5, 4096, 8, 0.14, unknown)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("FMOE_FASTER_SCHEDULE_ENABLE", "maybe", "1, ON, true or yes switches it on, and 0, OFF, false or no off"),
        ("FMOE_FASTER_SHADOW_ENABLE", "2", "1, ON, true or yes"),
        ("FMOE_FASTER_GROUP_SIZE", "0", "a whole number of ranks of at least 1, or auto, is needed"),
        ("FMOE_FASTER_GROUP_SIZE", "1.5", "or auto"),
        ("FMOE_FASTER_GLBPLC_NETBW", "10gb/s", "such as 1.25GB/s"),
        ("FMOE_FASTER_GLBPLC_GPUTP", "-3", "such as 11.5TFLOPS"),
        ("FMOE_FASTER_GLBPLC_ALPHA", "0", "a number above 0 is needed"),
        ("FMOE_FASTER_GLBPLC_ALPHA", "inf", "a number above 0 is needed"),
        ("FMOE_FASTER_GLBPLC_DMODEL", "4096.5", "a whole number of at least 1 is needed"),
        ("FMOE_TOPO_GPUS_PER_NODE", "eight", "a whole number of at least 1 is needed"),
        ("FMOE_TOPO_OUTGOING_FRACTION", "14", "a fraction from 0 to 1 is needed"),
        ("FMOE_TOPO_OUTGOING_FRACTION", "nan", "a fraction from 0 to 1 is needed"),
    ],
)
def test_a_bad_value_names_the_variable(name: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        fastermoe_env()
    assert f"the environment variable {name} is {value!r}; " in str(caught.value)
    assert allowed in str(caught.value)


def test_a_group_size_may_be_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMOE_FASTER_GROUP_SIZE", "Auto")
    assert fastermoe_env().group_size == "auto"


def test_they_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fastermoe_env()
    monkeypatch.setenv("FMOE_FASTER_SHADOW_ENABLE", "1")
    assert fastermoe_env() is before
