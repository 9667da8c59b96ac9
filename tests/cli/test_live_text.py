"""Several responses on one output, in the order of the prompts."""

import pytest

from mixtralkit.cli.live_text import LiveText
from mixtralkit.engine.request import Completion


def test_responses_come_in_order_and_as_early_as_they_can(capsys: pytest.CaptureFixture[str]) -> None:
    """The first is shown as it grows; the second, which ends before it, after it; the third goes on from there."""

    def shown() -> str:
        return capsys.readouterr().out

    def done(text: str) -> Completion:
        return Completion(text=text, tokens=(5,), finish_reason="eos", prompt_tokens=1, rank=0)

    live = LiveText(["one", "two", "three"], context=512, room=512)
    assert shown().endswith("[Prompt]:\none\n\n[Response]:\n")
    live.extend(0, "a")
    live.extend(1, "b")
    live.extend(2, "c")
    assert shown() == "a"
    live.finish(1, done("b"))
    assert shown() == ""
    live.finish(0, done("a"))
    first_end, second, third = shown().split("[Prompt]:\n")
    assert "end of text, 1 token" in first_end
    assert second.startswith("two\n\n[Response]:\nb\n\n[Ended by]:")
    assert third == "three\n\n[Response]:\nc"
    live.extend(2, "d")
    live.finish(2, done("cd"))
    assert shown().startswith("d\n\n[Ended by]:")


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (512, "end of the model's context, 1 token\n"),
        (96, "end of the room for keys and values (--kv-tokens), 96 of the model's context of 512, 1 token\n"),
    ],
)
def test_what_ended_a_response_is_told(room: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Too little room for keys and values can be helped, the model's context cannot."""
    live = LiveText(["one"], context=512, room=room)
    live.finish(0, Completion(text="a", tokens=(5,), finish_reason="context", prompt_tokens=1, rank=0))
    assert words in capsys.readouterr().out
