"""Values out of range are refused before anything loads, in words that say what is allowed."""

from pathlib import Path

import pytest

from mixtralkit.cli.common_options import DEVICES, DISPATCHES, MOE_BACKENDS, QUANTIZATIONS
from mixtralkit.cli.main import main
from mixtralkit.cli.options import ChatOptions, GenerateOptions
from mixtralkit.cli.ranks import beliefs
from mixtralkit.dist import device_choice
from mixtralkit.errors import UsageError
from mixtralkit.moe.dispatch.choose import DISPATCH_NAMES
from mixtralkit.moe.fastmoe_backend import OwnRows
from mixtralkit.ops.quantized_weight import QuantKind
from mixtralkit.session.settings import SessionSettings


def test_the_names_are_those_of_the_rooms_below() -> None:
    """They are written twice, as those rooms need torch, which --help shall not wait for."""
    assert DISPATCHES == DISPATCH_NAMES
    assert DEVICES == device_choice.DEVICES
    assert (SessionSettings.moe_backend, OwnRows.name) == MOE_BACKENDS
    assert tuple(kind.value for kind in QuantKind) == QUANTIZATIONS


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--max-tokens 0", "--max-tokens is '0'; a whole number of at least 1 is needed"),
        ("--max-tokens 1.5", "--max-tokens is '1.5'; a whole number of at least 1 is needed"),
        ("--temperature hot", "--temperature is 'hot'; a number is needed"),
        ("--temperature nan", "--temperature is 'nan'; a finite number is needed"),
        ("--temperature -1", "--temperature is -1.0; it must be 0 (greedy) or more"),
        ("--top-p 0", "--top-p is 0.0; it must be above 0 and at most 1"),
        ("--stop=", "--stop is ('',); it must be strings that are not empty"),
        ("--seed -1", "--seed is '-1'; a whole number from 0 to"),
        ("--dtype fp32", "choose one of auto, float32, bfloat16, float16"),
        (
            "--dispatch colective",
            "choose one of auto, local, collective, all_gather, hierarchical, peer, nccl (did you mean collective?)",
        ),
        ("--device gpu", "choose one of auto, cpu, cuda"),
        ("--report xml", "choose one of text, json, none"),
        ("--batch-size 0", "--batch-size is '0'"),
        ("--timeout 1", "--timeout is 1; at least 5 seconds are needed"),
        ("--nnodes 2", "need --nproc: the ranks on this node"),
        ("--master-port 70000 --nproc 2", "a whole number from 1 to 65535 is needed"),
        ("--model-weights=", "--model-weights is ''; the name of a file or folder is needed"),
    ],
)
def test_a_value_out_of_range(typed: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = [] if "weights" in typed else ["-m", "/nowhere"]
    assert main(["generate", *folder, *typed.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mixtralkit: error: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("output", "report", "kinds"),
    [
        ("", "", ("text", "text")),
        ("json", "", ("json", "json")),
        ("", "json", ("json", "json")),
        ("", "none", ("text", "none")),
        ("json", "none", ("json", "none")),
        ("json", "text", ("json", "text")),
        ("text", "json", ("text", "json")),
    ],
)
def test_output_and_report_follow_each_other(output: str, report: str, kinds: tuple[str, str]) -> None:
    options = GenerateOptions(model_weights=Path("x"), output=output, report=report)
    assert (options.output_kind, options.report_kind) == kinds


def test_ranks_must_agree_on_what_matters_to_all() -> None:
    """A node may keep its files elsewhere, and only rank 0 looks at prompts."""
    here = beliefs(GenerateOptions(model_weights=Path("a"), prompt=("x",), nproc=2, node_rank=0, nnodes=2))
    there = beliefs(GenerateOptions(model_weights=Path("b"), tokenizer=Path("t"), nproc=3, node_rank=1, nnodes=2))
    assert here == there
    assert here != beliefs(GenerateOptions(model_weights=Path("a"), max_tokens=5))
    assert beliefs(ChatOptions(model_weights=Path("a")))["--max-tokens"] == "512"


def test_options_made_in_python_are_checked_too() -> None:
    with pytest.raises(UsageError, match="--top-p is 2.0"):
        ChatOptions(model_weights=Path("x"), top_p=2.0)
