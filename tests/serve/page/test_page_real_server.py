"""The page with the real server and engine, and a small random model: what it shows is what other clients get."""

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from mixtralkit.model.batch import Batch
from mixtralkit.model.kv_cache import KVCache
from mixtralkit.model.transformer import Transformer
from mixtralkit.serve.api_keys import ApiKeys
from tests.serve.page.steps import answers, ask, ask_and_wait, ended
from tests.serve.running_server import RunningServer, running_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytest.importorskip("playwright.sync_api", reason="the page's tests need the package playwright")
from playwright.sync_api import expect

SETTINGS = {"temperature": 0.7, "seed": 5, "max_tokens": 24}


@pytest.fixture(scope="module")
def running(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The real server, after the browser: without one there is nothing to serve."""
    with running_server(tmp_path_factory.mktemp("real")) as server:
        yield server


@pytest.fixture
def real_page(browser: "Browser", running: RunningServer) -> "Iterator[Page]":
    """The page of the real server, with `SETTINGS`."""
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        page.goto(running.url)
        page.get_by_role("spinbutton", name="Seed").fill(str(SETTINGS["seed"]))
        page.get_by_role("spinbutton", name="Max tokens").fill(str(SETTINGS["max_tokens"]))
        yield page


def test_chat_shows_what_another_client_gets(real_page: "Page", running: RunningServer) -> None:
    ask_and_wait(real_page, "to be or not")
    messages = [{"role": "user", "content": "to be or not"}]
    answer = running.post("/v1/chat/completions", {"messages": messages, **SETTINGS}).json()
    expected = answer["choices"][0]["message"]["content"]
    assert shown_turn(real_page)["content"] == expected
    expect(answers(real_page)).to_contain_text(expected.strip().splitlines()[0])
    tokens = answer["usage"]["completion_tokens"]
    expect(real_page.locator(".figures")).to_contain_text(f"{tokens}\xa0token")


def test_complete_shows_what_another_client_gets(real_page: "Page", running: RunningServer) -> None:
    real_page.get_by_role("radio", name="Complete").check(force=True)
    real_page.get_by_role("textbox", name="Text to be continued").fill("to be")
    real_page.keyboard.press("Enter")
    ended(real_page)
    assert shown_turn(real_page)["content"] == running.complete(**SETTINGS)["choices"][0]["text"]


def test_stop_frees_the_engine(real_page: "Page", running: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # So slow that the answer, unless it is stopped, does not end in the time that the test takes.
    quick = Transformer.next_token_logits

    def slow(model: Transformer, batch: Batch, cache: KVCache) -> torch.Tensor:
        time.sleep(0.05)
        return quick(model, batch, cache)

    monkeypatch.setattr(Transformer, "next_token_logits", slow)
    real_page.get_by_role("spinbutton", name="Max tokens").fill("500")
    real_page.route("**/v1/chat/completions", _without_an_end)
    ask(real_page, "to be")
    expect(answers(real_page)).to_contain_text(re.compile(r"\S"))
    assert not running.idle()
    real_page.get_by_role("button", name="Stop").click()
    ended(real_page)
    running.until(running.idle, seconds=2)


def _without_an_end(route: "Route") -> None:
    """The same request, which goes on after an EOS."""
    route.continue_(post_data={**(route.request.post_data_json or {}), "ignore_eos": True})


def test_machine_tab_shows_the_server(real_page: "Page", running: RunningServer) -> None:
    running.complete(max_tokens=2)
    real_page.get_by_role("tab", name="Machine").click()
    expect(real_page.locator(".cell").first).to_have_text("60.0")  # 30 of 50 rows, as running_server.py tells
    expect(real_page.locator(".cell")).to_have_count(10)
    expect(real_page.locator("#ranks tbody")).to_contain_text("Rank 0here")
    expect(real_page.locator("#status")).to_have_text("small")


def test_server_with_keys_asks_for_one(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        running_server(tmp_path_factory.mktemp("keys"), keys=ApiKeys(["sesame"])) as server,
        browser.new_context() as context,
    ):
        page = context.new_page()
        page.goto(server.url)
        page.get_by_role("dialog").get_by_label("Key", exact=True).fill("sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_have_text("small")
        ask_and_wait(page, "to be")
        expect(page.locator(".notice")).to_have_count(0)


def shown_turn(page: "Page") -> dict[str, object]:
    """The last turn that the page keeps of its only conversation."""
    turn: dict[str, object] = page.evaluate(
        "JSON.parse(Object.entries(localStorage).find(([key]) => key.includes('.conversation.'))[1]).turns.at(-1)"
    )
    return turn
