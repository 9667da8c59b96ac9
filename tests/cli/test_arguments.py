"""What may be typed, what is made of it, and what is refused with which hint."""

import shlex

import pytest

from mixtralkit.cli.arguments import check_arguments, words_of
from mixtralkit.cli.main import main
from mixtralkit.cli.near_miss import near_miss
from mixtralkit.cli.option import options_of
from mixtralkit.cli.options import GenerateOptions, InspectOptions, VerifyOptions
from mixtralkit.cli.serve_options import ServeOptions
from mixtralkit.cli.verbs import VERBS, Verb
from mixtralkit.errors import UsageError

GENERATE = options_of(GenerateOptions)


def generate_options(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> GenerateOptions:
    """The options that the verb would get for `arguments`, by way of fire."""
    taken: list[GenerateOptions] = []

    def take(options: GenerateOptions) -> int:
        taken.append(options)
        return 0

    verb = Verb("generate", "", "", GenerateOptions, take)
    monkeypatch.setattr("mixtralkit.cli.main.VERBS", (verb,))
    assert main(["generate", *arguments]) == 0
    return taken[0]


# fire by itself would make a number, a list, a dict, a bool, a separator or its own flags of most of these.
TEXTS = [
    "1.5",
    "[1,2]",
    "{'a': 1}",
    "True",
    "None",
    "--",
    "-5",
    "a=b",
    "--help me",
    "",
    "'quoted'",
    "你好\n",
    "$HOME",
    ",",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_prompt_is_taken_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = generate_options(monkeypatch, ["-m", "x", f"--prompt={text}", "--stop", "1", "--", text, text])
    assert options.prompt == (text, text, text)
    assert options.stop == ("1",)


@pytest.mark.parametrize("written", ["--max-tokens 5", "--max-tokens=5", "--max_tokens 5", "--max_tokens=5"])
def test_dashes_and_underscores_spaces_and_equal_signs_are_alike(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert generate_options(monkeypatch, ["-m=x", *written.split()]).max_tokens == 5


def test_the_command_line_of_the_users_of_mixtralkit(monkeypatch: pytest.MonkeyPatch) -> None:
    long = generate_options(monkeypatch, shlex.split("--model-weights ./ckpts --tokenizer ckpts/tokenizer.model"))
    short = generate_options(monkeypatch, shlex.split("-m ./ckpts -t ckpts/tokenizer.model"))
    assert short == long
    assert (str(short.model_weights), str(short.tokenizer)) == ("ckpts", "ckpts/tokenizer.model")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--max-tokns 5", "there is no option --max-tokns (did you mean --max-tokens?)"),
        ("--temp=1", "(did you mean --temperature?)"),
        ("-model-weights x", "(did you mean --model-weights?)"),
        ("-x 5", "there is no option -x;"),
        ("--num-gpus 2", "--num-gpus: the number of ranks is torchrun's"),
        ("--top-k", "--top-k needs a value (N)"),
        ("--top-k --seed 4", "--top-k needs a value (N)"),
        ("--seed 1 --seed 2", "--seed is given twice: '1' and '2'"),
    ],
)
def test_a_wrong_option_is_refused_with_a_hint(typed: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_arguments(GENERATE, ["-m", "x", *typed.split()])
    assert message in str(caught.value)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(UsageError, match="-m or --model-weights DIR is missing: the folder of the checkpoint"):
        check_arguments(GENERATE, ["a prompt"])


def test_words_without_an_option_go_where_they_belong() -> None:
    assert check_arguments(options_of(InspectOptions), ["folder"]) == ["--model_weights=folder"]
    with pytest.raises(UsageError, match="--model-weights is given twice: 'a' and 'b'"):
        check_arguments(options_of(InspectOptions), ["a", "b"])
    with pytest.raises(UsageError, match="'word' belongs to no option"):
        check_arguments((), ["word"])


def test_a_switch_needs_no_value() -> None:
    options = options_of(VerifyOptions)
    assert check_arguments(options, ["x", "--write-manifest"])[-1] == "--write_manifest=true"
    assert check_arguments(options, ["x", "--write-manifest=no"])[-1] == "--write_manifest=no"


def test_the_value_of_a_switch_goes_after_an_equal_sign() -> None:
    options = options_of(ServeOptions)
    for flag in ("--prefix-reuse", "--prefix_reuse"):
        with pytest.raises(UsageError, match=f"'False' belongs to no option .did you mean {flag}=False.."):
            check_arguments(options, ["-m", "x", flag, "False"])
    for words in (["--prefix-reuse", "falls"], ["--prefix-reuse=true", "no"], ["--port", "1", "no"]):
        with pytest.raises(UsageError, match="belongs to no option; --help"):
            check_arguments(options, words)


def test_options_survive_being_written_as_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the ranks of --nproc get what their launcher got."""
    arguments = ["-m", "a b", "--top-p", "0.25", "--stop", "x,y", "--stop", "--", "--", "-", "--seed"]
    options = generate_options(monkeypatch, arguments)
    assert generate_options(monkeypatch, words_of(options)) == options
    assert set(words_of(options, without=("prompt", "stop"))) == {"--model-weights=a b", "--top-p=0.25"}


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("chta", " (did you mean chat?)"), ("gen", " (did you mean generate?)"), ("xyz", ""), ("", "")],
)
def test_near_misses(typed: str, hint: str) -> None:
    assert near_miss(typed, [verb.name for verb in VERBS]) == hint
