"""`generate` in one process: what it writes where, and what it refuses before loading."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mixtralkit.cli.main import main
from mixtralkit.tokenizer import Tokenizer
from tests.checkpoint.make_checkpoints import make_tokenizer
from tests.cli.conftest import CONFIG
from tests.random_model import random_model
from tests.reference import mixtral
from tests.reference.cases import shape_of

PROMPTS = ("To be, or not", "a sea")


def greedy(folder: Path, prompt: str, max_tokens: int) -> str:
    """The oracle's response, in float64 and without a cache."""
    tokenizer = Tokenizer(folder / "tokenizer.model")
    weights = {name: tensor.double() for name, tensor in random_model(CONFIG, seed=3).state_dict().items()}
    tokens = tokenizer.encode(prompt)
    for _ in range(max_tokens):
        tokens.append(int(mixtral.logits(weights, shape_of(CONFIG), tokens)[-1].argmax()))
        if tokens[-1] == tokenizer.eos_id:
            break
    return tokenizer.decode(tokens[len(tokenizer.encode(prompt)) :])


def test_prompts_and_responses_are_shown_as_mixtralkit_does(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "-m", str(checkpoint), "--max-tokens", "5", "--report", "none", *PROMPTS]) == 0
    rule = "=" * 30
    expected = [
        f"{rule}Example START{rule}\n\n[Prompt]:\n{prompt}\n\n[Response]:\n{greedy(checkpoint, prompt, 5)}\n\n"
        f"[Ended by]:\n--max-tokens, 5 tokens\n\n{rule}Example END{rule}\n\n"
        for prompt in PROMPTS
    ]
    assert capsys.readouterr().out == "".join(expected)


def test_a_single_response_streams_to_the_same_output(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two requests are shown at the end, one as it comes; batching must not show."""
    words = ["generate", "-m", str(checkpoint), "--max-tokens", "5", "--report", "none"]
    assert main([*words, PROMPTS[0]]) == 0
    streamed = capsys.readouterr().out
    assert main([*words, *PROMPTS]) == 0
    assert capsys.readouterr().out.startswith(streamed)


def test_wrong_guesses_are_no_tokens_of_the_report(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A random model repeats little, so that most of what is fed here is guessed wrong."""
    words = ["generate", "-m", str(checkpoint), "--temperature", "1", "--max-tokens", "20", "--report", "json"]
    assert main([*words, "--drafts", "4", "a a a a a a a a a a a a"]) == 0
    document = json.loads(capsys.readouterr().out)
    report = document["report"]
    assert report["drafts"]["proposed"] > report["drafts"]["accepted"]
    assert report["decode"]["tokens"] == document["completions"][0]["response_tokens"] - 1  # one comes with the prompt


def test_the_report_has_the_load_of_every_expert(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "-m", str(checkpoint), "--max-tokens", "4", "--report", "json", *PROMPTS]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    report = document["report"]
    prompt_tokens = sum(done["prompt_tokens"] for done in document["completions"])
    fed = prompt_tokens + 2 * 3  # a response's last token is never fed
    assert [report["prefill"]["tokens"], report["decode"]["tokens"]] == [prompt_tokens, 6]
    assert [sum(rows) for rows in report["rows_per_layer_and_expert"]] == [fed * CONFIG.top_k] * CONFIG.num_layers
    assert report["ranks"][0]["rows"] == sum(report["rows_per_expert"]) == fed * CONFIG.top_k * CONFIG.num_layers
    assert report["dispatch"] == {"name": "local", "reason": "all experts are on this rank"}
    assert report["bytes_sent"] == 0
    assert report["ranks"][0]["peak_memory_bytes"] > 50e6  # the interpreter and torch alone
    assert report["seconds_to_first_token"] > 0


def test_the_report_for_people_comes_last(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "-m", str(checkpoint), "--max-tokens", "4", "a"]) == 0
    report = capsys.readouterr().out.partition("Report")[2]
    for line in (
        "1 rank on 1 node, cpu, float32",
        "local (all experts are on this rank)",
        "tokens/s",
        "0 B between ranks",
    ):
        assert line in report


def test_json_and_text_may_be_mixed(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "-m", str(checkpoint), "--max-tokens", "2", "a"]
    assert main([*words, "--output", "json", "--report", "text"]) == 0
    out, err = capsys.readouterr()
    assert set(json.loads(out)) == {"completions"}
    assert "first token" in err
    assert main([*words, "--output", "text", "--report", "json"]) == 0
    *text, report = capsys.readouterr().out.splitlines()
    assert "[Response]:" in text
    assert json.loads(report)["world_size"] == 1


def test_the_dtype_is_converted(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "-m", str(checkpoint), "--dtype", "bfloat16", "--report", "json", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["report"]["dtype"] == "bfloat16"


def test_an_unknown_variable_of_fastermoe_is_named_once(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMOE_FASTER_GROUP_SIZES", "4")
    assert main(["generate", "-m", str(checkpoint), "--max-tokens", "1", "a"]) == 0
    message = (
        "mixtralkit: warning: the environment variable FMOE_FASTER_GROUP_SIZES has no meaning here "
        "(did you mean FMOE_FASTER_GROUP_SIZE?)"
    )
    assert " ".join(capsys.readouterr().err.split()).count(message) == 1


@pytest.mark.parametrize("flag", ["--trace", "--expert-load"])
def test_a_file_that_cannot_be_written_is_refused_before_loading(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no checkpoint, which would be the error otherwise."""
    assert main(["generate", "-m", "/nowhere", flag, str(tmp_path)]) == 2
    assert main(["generate", "-m", "/nowhere", flag, str(tmp_path / "absent" / "file")]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert f"{flag} is {tmp_path}, which is a folder" in err
    assert f"there is no folder {tmp_path / 'absent'}" in err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--dispatch", "local", "x" * 60_000], 1, "but the model's context is 20000"),
        (["-t", "/nowhere/tokenizer.model"], 1, "cannot read the tokenizer /nowhere/tokenizer.model: No such file"),
        (["--moe-backend", "fastmoe"], 2, "this run is on cpu; leave out --moe-backend fastmoe"),
        (["--moe-backend", "fastmoe", "--overlap", "2"], 2, "--overlap is a strategy of mixtralkit's own layers"),
        (["--prompt-file", "/nowhere"], 2, "--prompt-file /nowhere cannot be read: No such file"),
        (["a\udcff"], 1, "lone surrogate"),
    ],
)
def test_what_cannot_be_answered(
    words: list[str], status: int, message: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "-m", str(checkpoint), *words]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_another_models_tokenizer_is_refused_before_loading(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "tokenizer.model"
    make_tokenizer(other, 300)
    assert main(["generate", "-m", str(checkpoint), "-t", str(other)]) == 1
    out, err = capsys.readouterr()
    assert (out, "loading" in err) == ("", False)
    assert f"{other} has 300 pieces, but the model in {checkpoint} has a vocabulary of 320" in err


def test_converted_weights_that_do_not_fit_are_refused_before_loading(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the files' own dtype the weights stay in the files, so the same memory is enough."""
    half = CONFIG.num_params * torch.bfloat16.itemsize
    monkeypatch.setattr("mixtralkit.session.node_memory.free_memory", lambda device: half - 1)
    words = ["generate", "-m", str(checkpoint), "--max-tokens", "1", "a"]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--dtype", "bfloat16"]) == 1
    out, err = capsys.readouterr()
    assert (out, "loading" in err) == ("", False)
    assert f"take {half / 1000:.3g} kB in bfloat16, and {(half - 1) / 1000:.3g} kB are free" in err


def test_weights_quantized_on_the_fly_that_do_not_fit_are_refused_before_loading(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo model is 4.81 MB in int4."""
    monkeypatch.setattr("mixtralkit.session.node_memory.free_memory", lambda device: 4_700_000)
    demo = Path(__file__).parents[2] / "demo" / "shakespeare"
    assert main(["generate", "-m", str(demo), "--quantize", "int4", "a"]) == 1
    out, err = capsys.readouterr()
    assert (out, "loading" in err) == ("", False)
    assert "take 4.81 MB in int4, and 4.7 MB are free; 'mixtralkit convert --quantize int4' writes files" in err


def test_the_report_says_what_is_quantized(capsys: pytest.CaptureFixture[str]) -> None:
    demo = Path(__file__).parents[2] / "demo" / "shakespeare"
    assert main(["generate", "-m", str(demo), "--quantize", "int8", "--max-tokens", "1", "a"]) == 0
    assert "cpu, int8 (8.25 bits a weight) and bfloat16" in capsys.readouterr().out


def test_the_tokenizer_may_be_elsewhere(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(random_model(CONFIG, seed=3).state_dict(), tmp_path / "consolidated.00.pth")
    shutil.copy(checkpoint / "params.json", tmp_path)
    words = ["generate", "-m", str(tmp_path), "--max-tokens", "1", "a"]
    assert main(words) == 1
    assert f"{tmp_path} has no tokenizer.model; name one with --tokenizer FILE" in capsys.readouterr().err
    assert main([*words, "-t", str(checkpoint / "tokenizer.model")]) == 0
