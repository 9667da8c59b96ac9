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

    live = LiveText(["one", "two", "three"])
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
