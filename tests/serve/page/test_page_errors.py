"""Errors on the page: said in words, what came before them is kept, and there is a way on."""

from typing import TYPE_CHECKING

import pytest

from tests.serve.page.stand_in import Answer, StandIn
from tests.serve.page.steps import answers, ask_and_wait

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api", reason="the page's tests need the package playwright")
from playwright.sync_api import expect


@pytest.mark.parametrize(
    ("answer", "notice"),
    [
        (
            Answer(status=429, message="256 requests are waiting", retry_after=5),
            "The server is busy 256 requests are waiting. Try again in 5 seconds.",
        ),
        (
            Answer(status=503, message="the model is loading", retry_after=1),
            "The server is not ready the model is loading. Try again in 1 second.",
        ),
        (
            Answer(status=400, message="the prompt has 5000 tokens, the context 4096"),
            "The server refused this request the prompt has 5000 tokens, the context 4096.",
        ),
        (Answer(status=500, message="a rank is gone"), "The server failed a rank is gone."),
    ],
)
def test_refusals_are_said_in_words(page: "Page", stand_in: StandIn, answer: Answer, notice: str) -> None:
    stand_in.answer = answer
    ask_and_wait(page, "Hello")
    expect(page.locator(".notice")).to_have_text(notice)
    stand_in.answer = Answer()
    page.get_by_role("button", name="Try again").click()
    expect(answers(page)).to_have_text(["Hello there."])
    expect(page.locator(".notice")).to_have_count(0)


@pytest.mark.parametrize(
    ("answer", "notice"),
    [
        (Answer(("Half an",), message="rank 1 is gone"), "The answer could not be completed rank 1 is gone."),
        (Answer(("Half an",), cut=True), "The connection was lost The answer ended before it was complete."),
    ],
)
def test_stream_that_breaks_keeps_its_text(page: "Page", stand_in: StandIn, answer: Answer, notice: str) -> None:
    stand_in.answer = answer
    ask_and_wait(page, "Hello")
    expect(answers(page)).to_have_text(["Half an"])
    expect(page.locator(".notice")).to_have_text(notice)


def test_server_that_is_gone(page: "Page", stand_in: StandIn) -> None:
    page.route("**/v1/chat/completions", lambda route: route.abort())
    ask_and_wait(page, "Hello")
    expect(page.locator(".notice")).to_contain_text("The server does not answer")


def test_message_after_an_error_carries_the_unanswered_one(page: "Page", stand_in: StandIn) -> None:
    # Roles alternate in a chat template, and nothing that was said gets lost.
    stand_in.answer = Answer(status=503, message="not yet", retry_after=1)
    ask_and_wait(page, "One")
    stand_in.answer = Answer()
    page.get_by_role("textbox", name="Message").fill("Two")
    page.get_by_role("button", name="Send").click()
    expect(answers(page).last).to_have_text("Hello there.")
    assert stand_in.last_body["messages"] == [{"role": "user", "content": "One\n\nTwo"}]


def test_key_is_asked_for_and_kept_in_this_tab_only(page: "Page", stand_in: StandIn) -> None:
    stand_in.key = "right"
    page.reload()
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog.get_by_label("Key", exact=True)).to_be_focused()
    dialog.get_by_label("Key", exact=True).fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("did not accept that key")
    dialog.get_by_label("Key", exact=True).fill("right")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_be_hidden()
    ask_and_wait(page, "Hello")
    expect(answers(page)).to_have_text(["Hello there."])
    page.reload()
    ask_and_wait(page, "Again")
    assert page.evaluate("JSON.stringify(localStorage)").count("right") == 0
    assert page.evaluate("Object.values(sessionStorage)").count("right") == 1


def test_key_may_be_declined(page: "Page", stand_in: StandIn) -> None:
    stand_in.key = "right"
    page.reload()
    page.get_by_role("dialog").get_by_role("button", name="Not now").click()
    page.get_by_role("textbox", name="Message").fill("Hello")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Not now").click()
    expect(page.locator(".notice")).to_contain_text("An API key is needed")
    page.wait_for_timeout(2500)  # the page goes on asking how the server is, and does not bother the reader again
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#status")).to_have_text("An API key is needed")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("dialog").get_by_label("Key", exact=True).fill("right")
    page.keyboard.press("Enter")
    expect(answers(page)).to_have_text(["Hello there."])


def test_conversation_that_finds_no_room_is_said(page: "Page") -> None:
    page.evaluate("void (Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') })")
    ask_and_wait(page, "Hello")
    expect(page.locator("#room")).to_contain_text("no more room")
    expect(answers(page)).to_have_text(["Hello there."])
