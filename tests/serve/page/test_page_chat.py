"""The chat of the page, in a real Chromium: what a reader does, and what the server is asked."""

import json
from typing import TYPE_CHECKING

import pytest

from tests.serve.page.stand_in import Answer, StandIn
from tests.serve.page.steps import answers, ask, ask_and_wait, ended, titles

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.importorskip("playwright.sync_api", reason="the page's tests need the package playwright")
from playwright.sync_api import expect

ENDLESS = tuple(f"word{number} " for number in range(2000))


def test_text_appears_while_it_streams(page: "Page", stand_in: StandIn) -> None:
    stand_in.answer = Answer(ENDLESS, pause=0.02)
    ask(page, "Go on")
    expect(answers(page)).to_contain_text("word3")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(answers(page)).not_to_contain_text("word1999")


def test_stop_keeps_the_text_and_ends_the_request(page: "Page", stand_in: StandIn) -> None:
    stand_in.answer = Answer(ENDLESS, pause=0.02)
    ask(page, "Go on")
    expect(answers(page)).to_contain_text("word3")
    page.get_by_role("button", name="Stop").click()
    ended(page)
    assert stand_in.left.wait(5), "the server still streams"
    expect(answers(page)).to_contain_text("word3")
    expect(page.locator(".figures")).to_contain_text("stopped")
    expect(page.get_by_role("textbox", name="Message")).to_be_focused()


def test_request_has_the_conversation_and_the_defaults(page: "Page", stand_in: StandIn) -> None:
    ask_and_wait(page, "One")
    ask_and_wait(page, "Two")
    assert stand_in.asked[-1] == (
        "/v1/chat/completions",
        {
            "model": "tiny",
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.7,
            "top_p": 1,
            "max_tokens": 512,
            "messages": [
                {"role": "user", "content": "One"},
                {"role": "assistant", "content": "Hello there."},
                {"role": "user", "content": "Two"},
            ],
        },
    )


def test_settings_are_sent_and_kept(page: "Page", stand_in: StandIn) -> None:
    page.get_by_label("System prompt").fill("Be brief.")
    for name, value in {"Temperature": "1.25", "Top p": "0.9", "Min p": "0.05"}.items():
        page.get_by_role("slider", name=name).fill(value)
    for name, value in {"Top k": "40", "Max tokens": "77", "Seed": "1234"}.items():
        page.get_by_role("spinbutton", name=name).fill(value)
    page.reload()
    ask_and_wait(page, "Hello")
    sent = {name: stand_in.last_body[name] for name in ("temperature", "top_p", "min_p", "top_k", "max_tokens", "seed")}
    assert sent == {"temperature": 1.25, "top_p": 0.9, "min_p": 0.05, "top_k": 40, "max_tokens": 77, "seed": 1234}
    assert stand_in.last_body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_setting_out_of_its_range_is_not_sent(page: "Page", stand_in: StandIn) -> None:
    page.get_by_role("spinbutton", name="Max tokens").fill("0")
    ask(page, "Hello")
    expect(page.get_by_role("spinbutton", name="Max tokens")).to_be_focused()
    assert stand_in.asked == []
    assert page.get_by_role("textbox", name="Message").input_value() == "Hello"


def test_figures_of_an_answer(page: "Page", stand_in: StandIn) -> None:
    # 11 tokens, at least 20 ms apart and before the first one: at most 50 tokens a second.
    stand_in.answer = Answer(("a ",) * 11, pause=0.02, finish="length")
    ask_and_wait(page, "Hello")
    figures = page.locator(".figures").inner_text().replace("\xa0", " ").split(" · ")
    assert figures[0] == "11 tokens"
    assert 0 < float(figures[1].removesuffix(" tokens/s")) <= 50
    assert float(figures[2].removeprefix("first token after ").split()[0]) > 0
    assert figures[3] == "reached the limit of tokens"


def test_regenerate_asks_the_same_again(page: "Page", stand_in: StandIn) -> None:
    ask_and_wait(page, "Hello")
    stand_in.answer = Answer(("Another.",))
    page.get_by_role("button", name="Regenerate").click()
    expect(answers(page)).to_have_text(["Another."])
    assert stand_in.asked[0] == stand_in.asked[1]


def test_conversations_outlive_a_reload(page: "Page") -> None:
    ask_and_wait(page, "First one")
    page.get_by_role("button", name="New conversation").click()
    ask_and_wait(page, "Second one")
    page.reload()
    assert titles(page) == ["Second one", "First one"]
    expect(page.locator(".said .text")).to_have_text(["Second one"])
    page.get_by_role("button", name="First one").click()
    expect(page.locator(".said .text")).to_have_text(["First one"])
    expect(answers(page)).to_have_text(["Hello there."])
    expect(page.get_by_role("button", name="First one")).to_have_attribute("aria-current", "true")


def test_page_left_in_the_middle_of_an_answer_keeps_what_came(page: "Page", stand_in: StandIn) -> None:
    stand_in.answer = Answer(ENDLESS, pause=0.02)
    ask(page, "Go on")
    expect(answers(page)).to_contain_text("word3")
    page.reload()
    expect(answers(page)).to_contain_text("word3")
    expect(page.locator(".figures")).to_contain_text("stopped")


def test_rename_export_and_delete(page: "Page") -> None:
    ask_and_wait(page, "Hello")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Title of the conversation").fill("About rows")
    page.keyboard.press("Enter")
    assert titles(page) == ["About rows"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename == "About-rows.json"
    exported = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert [turn["content"] for turn in exported["turns"]] == ["Hello", "Hello there."]
    assert exported["title"] == "About rows"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    assert titles(page) == ["About rows"]
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.reload()
    assert titles(page) == []


def test_answer_goes_on_while_another_conversation_is_open(page: "Page", stand_in: StandIn) -> None:
    stand_in.answer = Answer(("slow ",) * 25, pause=0.02)
    ask(page, "Slow")
    expect(answers(page)).to_contain_text("slow")
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    page.get_by_role("button", name="Slow").click()
    ended(page)
    expect(answers(page)).to_have_text("slow " * 25)


def test_deleting_ends_the_answer_for_good(page: "Page", stand_in: StandIn) -> None:
    stand_in.answer = Answer(ENDLESS, pause=0.02)
    ask(page, "Go on")
    expect(answers(page)).to_contain_text("word3")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    assert stand_in.left.wait(5), "the server still streams"
    page.reload()
    assert titles(page) == []


def test_complete_goes_on_with_the_text_as_it_stands(page: "Page", stand_in: StandIn) -> None:
    page.get_by_role("radio", name="Complete").check(force=True)
    stand_in.answer = Answer((" was", " a king"))
    page.get_by_role("textbox", name="Text to be continued").fill("Once there")
    page.get_by_role("button", name="Continue").click()
    ended(page)
    expect(page.locator(".completion .text")).to_have_text("Once there was a king")
    expect(page.locator(".generated")).to_have_text(" was a king")
    page.get_by_role("button", name="Continue").click()  # without a text of one's own
    ended(page)
    path, body = stand_in.asked[-1]
    assert (path, body["prompt"]) == ("/v1/completions", "Once there was a king")
    assert "messages" not in body
    expect(page.locator(".completion .text")).to_have_text("Once there was a king was a king")
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_role("radio", name="Complete")).to_be_checked()


def test_two_windows_see_each_other(page: "Page", stand_in: StandIn) -> None:
    other = page.context.new_page()
    other.goto(stand_in.url)
    ask_and_wait(page, "From the first window")
    expect(other.locator("#conversation-list button")).to_have_text("From the first window")
